import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './support.ts'

export interface DocumentedEndpoint {
  title: string
  method: string
  path: string
  authentication: string | null
  request: Record<string, unknown> | null
  response: Record<string, unknown>
}

const text = readFileSync(join(ROOT, 'docs', 'api-contract.md'), 'utf8')

/** The endpoints that docs/api-contract.md prints, with their example request and response. */
export function documentedEndpoints(): DocumentedEndpoint[] {
  const section = text.slice(text.indexOf('## Endpoints'), text.indexOf('## Error Responses'))
  return section
    .split(/^### /m)
    .slice(1)
    .map((part) => {
      const [, method, path] = /\*\*(GET|POST)\*\* `([^`]+)`/.exec(part) ?? []
      if (!method || !path) throw new Error(`no method and path in: ${part.slice(0, 80)}`)
      const response = jsonAfter(part, '**Response:**')
      if (!response) throw new Error(`no response in: ${part.slice(0, 80)}`)
      return {
        title: part.split('\n')[0] ?? '',
        method,
        path,
        authentication: /\*\*Authentication:\*\* (\w+)/.exec(part)?.[1] ?? null,
        request: jsonAfter(part, '**Request Body:**'),
        response,
      }
    })
}

/** The two example workflows: each a list of its curl commands, with the comment above it. */
export function documentedWorkflows(): {
  title: string
  commands: { comment: string; curl: string }[]
}[] {
  const section = text.slice(text.indexOf('## Example Workflows'), text.indexOf('## Performance Tips'))
  return section
    .split(/^### /m)
    .slice(1)
    .map((part) => {
      const script = /```bash\n([\s\S]*?)```/.exec(part)?.[1] ?? ''
      const commands = script
        .split(/^(?=curl |# )/m)
        .map((piece) => piece.trim())
        .filter(Boolean)
      const pairs: { comment: string; curl: string }[] = []
      let comment = ''
      for (const piece of commands) {
        if (piece.startsWith('#')) comment = piece
        else pairs.push({ comment, curl: piece })
      }
      return { title: part.split('\n')[0] ?? '', commands: pairs }
    })
}

/** The LoRA table: name → default as printed. */
export function documentedLoraDefaults(): Record<string, unknown> {
  const section = text.slice(text.indexOf('## LoRA Parameters'), text.indexOf('## Example Workflows'))
  const rows = [...section.matchAll(/^\| `(\w+)` \| \w+ \| (.+?) \|/gm)]
  return Object.fromEntries(rows.map(([, name, value]) => [name, JSON.parse(value ?? 'null')]))
}

function jsonAfter(part: string, marker: string): Record<string, unknown> | null {
  const start = part.indexOf(marker)
  if (start < 0) return null
  const block = /```json\n([\s\S]*?)```/.exec(part.slice(start))
  return block?.[1] ? JSON.parse(block[1]) : null
}

/** Paths at which `actual` lacks a key of `printed` or holds another type. Items of an array are held to the printed first.
 *  Under `open` paths (free-form maps) only the type counts. */
export function differences(printed: unknown, actual: unknown, path = '$'): string[] {
  if (kind(printed) !== kind(actual)) return [`${path}: printed ${kind(printed)}, got ${kind(actual)}`]
  if (Array.isArray(printed) && Array.isArray(actual))
    return printed.length === 0
      ? []
      : actual.flatMap((item, index) => differences(printed[0], item, `${path}[${index}]`))
  if (isObject(printed) && isObject(actual))
    return Object.entries(printed).flatMap(([key, value]) =>
      key in actual ? differences(value, actual[key], `${path}.${key}`) : [`${path}.${key}: missing`],
    )
  return []
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const kind = (value: unknown) => (value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value)
