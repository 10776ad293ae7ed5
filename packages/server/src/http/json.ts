import { ServiceError } from '@mlx-training/contract'
import type { FastifyInstance } from 'fastify'

/**
 * JSON bodies: UTF-8 or nothing, syntax errors with their place, `__proto__` and `constructor.prototype` refused.
 * An empty body is no body: clients that set the content type on every POST may stop a job.
 */
export function acceptJsonOnly(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    if (body.length === 0) return done(null, undefined)
    const text = decode(body)
    if (text === null) return done(new ServiceError('invalid_json', 'The body is not valid UTF-8'))
    parse(request, text, (error, value) => {
      if (error) return done(whatIsWrong(text))
      const field = SURROGATE_ESCAPE.test(text) ? halfCharacter(value) : null
      done(field === null ? null : halfCharacterError(field), value)
    })
  })
}

/** UTF-8 can't hold half of a surrogate pair, so only an escape can bring one in. */
const SURROGATE_ESCAPE = /\\u[dD][89a-fA-F]/

/** Dotted path of a text or key with half of a surrogate pair: nothing behind this server could read it. */
function halfCharacter(value: unknown, path = ''): string | null {
  if (typeof value === 'string') return value.isWellFormed() ? null : path
  if (value === null || typeof value !== 'object') return null
  for (const [key, inner] of Object.entries(value)) {
    const at = path ? `${path}.${key}` : key
    if (!key.isWellFormed()) return at.toWellFormed()
    const found = halfCharacter(inner, at)
    if (found !== null) return found
  }
  return null
}

function halfCharacterError(path: string): ServiceError {
  const field = path || 'body'
  const message = 'holds half of a surrogate pair: a character was cut in two, so send it whole or leave it out'
  return new ServiceError('unprocessable', `${field} ${message}`, { errors: [{ field, message }] })
}

function decode(body: Buffer): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch {
    return null
  }
}

function whatIsWrong(text: string): ServiceError {
  try {
    JSON.parse(text)
  } catch {
    const at = jsonErrorAt(text)
    const before = text.slice(0, at)
    const line = before.split('\n').length
    const column = at - before.lastIndexOf('\n')
    const found = at < text.length ? `unexpected ${JSON.stringify(text.slice(at, at + 10))}` : 'it ends too early'
    return new ServiceError(
      'invalid_json',
      `The body is not valid JSON: ${found} at line ${line}, column ${column} (position ${at})`,
    )
  }
  return new ServiceError('invalid_json', 'The body has a key "__proto__" or "constructor.prototype", which is refused')
}

const SPACE = /[ \t\n\r]*/y
const TOKEN =
  /([{}[\],:])|("(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y

/**
 * Position (UTF-16 units, from 0) of the first thing in the text that JSON does not allow; its length when it just ends
 * too early. V8 tells it only for some errors, and differently from version to version.
 */
export function jsonErrorAt(text: string): number {
  const open: string[] = []
  let expected: 'value' | 'item' | 'key' | 'name' | 'colon' | 'comma' | 'end' = 'value'
  for (let at = 0; ; at = TOKEN.lastIndex) {
    SPACE.lastIndex = at
    SPACE.test(text)
    at = TOKEN.lastIndex = SPACE.lastIndex
    const token = TOKEN.exec(text)
    if (!token || expected === 'end') return at
    const [, mark, string] = token
    const inObject = open.at(-1) === '{'
    const mayClose = expected === 'comma' || expected === 'item' || expected === 'name'
    if (mayClose && mark === (inObject ? '}' : ']')) {
      open.pop()
      expected = open.length > 0 ? 'comma' : 'end'
    } else if (expected === 'comma') {
      if (mark !== ',') return at
      expected = inObject ? 'key' : 'value'
    } else if (expected === 'colon') {
      if (mark !== ':') return at
      expected = 'value'
    } else if (expected === 'key' || expected === 'name') {
      if (string === undefined) return at
      expected = 'colon'
    } else if (mark === '{' || mark === '[') {
      open.push(mark)
      expected = mark === '{' ? 'name' : 'item'
    } else {
      if (mark !== undefined) return at
      expected = open.length > 0 ? 'comma' : 'end'
    }
  }
}
