/** JSON with what has room in a line on one. */
export function compact(value: unknown, indent = '', room = 110): string {
  const line = JSON.stringify(value, null, 1).replaceAll(/\n\s*/g, ' ')
  if (line.length + indent.length < room || typeof value !== 'object' || value === null) return line
  const inner = `${indent}  `
  const list = Array.isArray(value)
  const parts = list
    ? value.map((one) => compact(one, inner, room))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${compact(one, inner, room)}`)
  return `${list ? '[' : '{'}\n${parts.map((part) => inner + part).join(',\n')}\n${indent}${list ? ']' : '}'}`
}
