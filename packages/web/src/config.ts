/** A start as rows of names and values, to be read and to be compared. */
import type { AcceptedRequest } from '@mlx-training/sdk'

/** What is another one in every experiment says nothing about how it was trained. */
const OWN = ['experiment_name', 'output_dir', 'overwrite', 'priority', 'tags']

/** `lora.lora_r` → 16, in the order of the request. */
export function flatten(request: AcceptedRequest): Map<string, unknown> {
  const rows = new Map<string, unknown>()
  const visit = (value: unknown, path: string) => {
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      for (const [name, inner] of Object.entries(value)) visit(inner, path ? `${path}.${name}` : name)
    else if (!OWN.includes(path)) rows.set(path, value)
  }
  visit(request, '')
  return rows
}

export function valueText(value: unknown): string {
  if (value === undefined) return '–'
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.join(', ')
  return typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value)
}

export interface Difference {
  name: string
  /** One a configuration. */
  values: string[]
}

/** The fields in which they are not all alike. */
export function differences(requests: readonly AcceptedRequest[]): Difference[] {
  const all = requests.map(flatten)
  const names = new Set(all.flatMap((rows) => [...rows.keys()]))
  return [...names]
    .map((name) => ({ name, values: all.map((rows) => valueText(rows.get(name))) }))
    .filter(({ values }) => values.some((value) => value !== values[0]))
}
