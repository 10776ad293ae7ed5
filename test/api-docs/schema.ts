/** A schema as rows of a table: every field with its type, default or need, limits and meaning. */

export interface Schema {
  type?: string | string[]
  description?: string
  default?: unknown
  enum?: unknown[]
  const?: unknown
  format?: string
  pattern?: string
  items?: Schema
  properties?: Record<string, Schema>
  patternProperties?: Record<string, Schema>
  required?: string[]
  anyOf?: Schema[]
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  minLength?: number
  maxLength?: number
  minItems?: number
  maxItems?: number
  uniqueItems?: boolean
}

/** Where the fields of an object were told already: another object of the same fields refers to that. */
export type Told = Map<object, string>

/** Fewer fields than these are told again. */
const FEW = 4

/** Of what a client sends, a column tells what it must and what is taken for what it leaves out. `place`: of the table. */
export function fieldTable(schema: Schema, sent: boolean, place = '', told: Told = new Map()): string {
  const rows = fieldsOf(schema, '', place, told).map(({ name, field, needed, as }) => {
    const limits = limitsOf(field)
    const may = sent || needed ? '' : 'may be left out'
    const about = [field.description, [limits, may].filter(Boolean).join('; ')].filter(Boolean)
    const need = field.default !== undefined ? code(JSON.stringify(field.default)) : needed ? 'required' : ''
    const type = as === undefined ? typeOf(field) : `${typeOf(field)}, as ${as}`
    return [code(name), type, ...(sent ? [need] : []), about.length > 1 ? `${about[0]} (${about[1]})` : about.join('')]
  })
  const head = sent ? ['field', 'type', 'default', 'meaning'] : ['field', 'type', 'meaning']
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n')
}

const code = (text: string) => `\`${text}\``
const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

interface Field {
  name: string
  field: Schema
  needed: boolean
  /** Where its own fields are. */
  as?: string
}

/** Depth first: `a`, `a.b`, `a.c[].d`. Alternatives of objects are told one after the other. */
function fieldsOf(schema: Schema, path: string, place: string, told: Told): Field[] {
  const { properties = {}, required = [] } = schema
  const own = Object.entries(properties).flatMap(([name, field]) => {
    const full = path ? `${path}.${name}` : name
    const as = objectOf(field) && told.get(objectOf(field) ?? {})
    const about = { name: full, field, needed: required.includes(name) }
    return as === undefined ? [about, ...inside(field, full, place, told)] : [{ ...about, as }]
  })
  if (Object.keys(properties).length >= FEW && !told.has(properties))
    told.set(properties, path ? `\`${path}\` of ${place}` : place)
  return [...own, ...(schema.anyOf ?? []).flatMap((one) => fieldsOf(one, path, place, told))]
}

/** The fields of the one object that it is, a list of it, or it or null. */
function objectOf(field: Schema): Record<string, Schema> | undefined {
  return field.properties ?? (field.items && objectOf(field.items)) ?? field.anyOf?.map(objectOf).find(Boolean)
}

function inside(field: Schema, path: string, place: string, told: Told): Field[] {
  const [values] = Object.values(field.patternProperties ?? {})
  return [
    ...fieldsOf({ ...field, anyOf: [] }, path, place, told),
    ...(field.items ? inside(field.items, `${path}[]`, place, told) : []),
    ...(values ? inside(values, `${path}.*`, place, told) : []),
    ...(field.anyOf ?? []).flatMap((one) => inside(one, path, place, told)),
  ]
}

function typeOf(field: Schema): string {
  if (field.const !== undefined) return code(JSON.stringify(field.const))
  if (field.enum) return field.enum.map((value) => code(JSON.stringify(value))).join(', ')
  if (field.anyOf) return [...new Set(field.anyOf.map(typeOf))].join(' or ')
  if (field.items) return `list of ${typeOf(field.items)}`
  const types = [field.type ?? 'any'].flat().map((type) => NAMES[type] ?? type)
  return field.format === 'date-time' ? 'time' : types.join(' or ')
}

const NAMES: Record<string, string> = { string: 'text', integer: 'whole number', boolean: 'true or false' }

function limitsOf(field: Schema): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength, minItems, maxItems } = field
  const span = (low: number | undefined, high: number | undefined, what = '') => {
    if (low !== undefined && high !== undefined && high < Number.MAX_SAFE_INTEGER) return `${low} to ${high}${what}`
    if (low !== undefined) return `at least ${low}${what}`
    return high === undefined ? '' : `up to ${high}${what}`
  }
  const lists = field.items ? span(minItems, maxItems, ' entries').replace(/\b1 entries/, '1 entry') : ''
  const texts = maxLength !== undefined || (minLength ?? 0) > 1 ? span(minLength, maxLength, ' characters') : ''
  const inner = [...(field.anyOf ?? []), ...(field.items ? [field.items] : [])].map(limitsOf)
  return [
    exclusiveMinimum === undefined ? '' : `greater than ${exclusiveMinimum}`,
    exclusiveMaximum === undefined ? '' : `less than ${exclusiveMaximum}`,
    span(minimum, maximum),
    texts || (minLength === 1 ? 'not empty' : ''),
    lists,
    field.uniqueItems ? 'each once' : '',
    ...inner,
  ]
    .filter((limit, nth, all) => limit !== '' && all.indexOf(limit) === nth)
    .join(', ')
}
