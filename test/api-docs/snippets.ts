/** An example's calls as the document prints them. */
import { ROUTES, type Route, type RouteName } from '@mlx-training/contract'
import { API_EXAMPLES } from './examples.ts'
import { compact } from './json.ts'

export interface Snippet {
  language: 'bash' | 'js' | 'python'
  title: string
  code: string
}

export function snippetsOf(name: RouteName): Snippet[] {
  const { body, sdk, node, python } = API_EXAMPLES[name]
  const withBody = (code: string) => code.replace('$BODY', () => literal(body))
  return [
    { language: 'bash', title: 'curl', code: curlOf(name) },
    ...(sdk ? [{ language: 'js' as const, title: 'SDK', code: withBody(sdk) }] : []),
    ...(node ? [{ language: 'js' as const, title: "OpenAI's SDK for Node", code: withBody(node) }] : []),
    ...(python ? [{ language: 'python' as const, title: "OpenAI's SDK for Python", code: python }] : []),
  ]
}

function curlOf(name: RouteName): string {
  const { params = {}, query, body, curl } = API_EXAMPLES[name]
  if (curl) return curl
  const route: Route = ROUTES[name]
  const path = route.path.replace(/:(\w+)/g, (_, part: string) => params[part] ?? `:${part}`)
  const words = [
    route.stream ? 'curl -sN' : 'curl -s',
    ...(route.method === 'GET' || body ? [] : [`-X ${route.method}`]),
    query ? `"$URL${path}?${query}"` : `$URL${path}`,
    ...(route.auth === 'required'
      ? [route.tag === 'openai' ? '-H "Authorization: Bearer $KEY"' : '-H "X-API-Key: $KEY"']
      : []),
  ]
  if (!body) return words.join(' ')
  const json = compact(body, '', 80).replaceAll("'", "'\\''")
  return `${words.join(' ')} -H 'Content-Type: application/json' \\\n  -d '${json}'`
}

/** As JavaScript writes it. */
function literal(value: unknown, indent = ''): string {
  if (typeof value === 'string') return `'${value.replaceAll("'", "\\'")}'`
  if (Array.isArray(value)) return `[${value.map((one) => literal(one, indent)).join(', ')}]`
  if (typeof value !== 'object' || value === null) return String(value)
  const fields = Object.entries(value).map(([name, inner]) => `${name}: ${literal(inner, `${indent}  `)}`)
  const line = `{ ${fields.join(', ')} }`
  return line.length + indent.length < 80
    ? line
    : `{\n${fields.map((field) => `${indent}  ${field},\n`).join('')}${indent}}`
}
