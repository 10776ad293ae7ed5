/** place: which side of a split a row comes to; engine/src/mlx_engine/data/split.py is the same rule. */
import type { Conversation } from '../formats/format.ts'
import { blake2b8 } from './blake2b.ts'

/** From 0 up to 1, evenly over all that rows can say. The row's number and which turns are learned don't count. `seed`:
 *  another choice; without one, the engine's. */
export function place({ turns, tools, raw }: Pick<Conversation, 'turns' | 'tools' | 'raw'>, seed?: number): number {
  const said = raw ? [raw.prompt, raw.completion] : [turns.map(({ role, content }) => [role, content]), tools ?? null]
  const key = seed === undefined ? undefined : Buffer.from(String(seed))
  const [low, high] = blake2b8(Buffer.from(canonicalJson(said)), key)
  // The upper 53 bits, as many as a float64 holds exactly.
  return (high * 2 ** 21 + (low >>> 11)) / 2 ** 53
}

/** JSON as msgspec writes it with order="deterministic": keys by code point, numbers in their shortest form. */
export function canonicalJson(value: unknown): string {
  if (typeof value === 'number') return numberText(value)
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  const members = Object.entries(value).sort(([a], [b]) => byCodePoint(a, b))
  return `{${members.map(([key, inner]) => `${JSON.stringify(key)}:${canonicalJson(inner)}`).join(',')}}`
}

/** UTF-8 has the order of code points, UTF-16 has not. */
const byCodePoint = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))

/** Differs from JavaScript's in 1e-6 (0.000001) and from 1e21 on (1e+21). */
function numberText(value: number): string {
  const text = JSON.stringify(value)
  if (/^-?0\.00000[1-9]/.test(text)) return value.toExponential()
  return text.replace('e+', 'e')
}
