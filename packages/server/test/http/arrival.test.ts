import { once } from 'node:events'
import { connect } from 'node:net'
import fastify, { type FastifyInstance } from 'fastify'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { limitArrival } from '../../src/http/arrival.ts'
import { clientError } from '../../src/http/errors.ts'

const LIMIT_MS = 100
let app: FastifyInstance
let port: number
beforeAll(async () => {
  app = fastify({ clientErrorHandler: clientError })
  limitArrival(app, LIMIT_MS)
  const late = async () => new Promise((answer) => setTimeout(answer, 3 * LIMIT_MS, 'late'))
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, async () => null)
  app.post('/', late)
  app.post('/file', { config: { upload: true } }, async () => 'taken')
  port = Number(new URL(await app.listen({ host: '127.0.0.1', port: 0 })).port)
})
afterAll(() => app.close())

/** Sends the head at once and the body when told to; the answer's text. */
async function exchange(path: string, body: string, waitMs: number): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(`POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`)
  setTimeout(() => socket.write(body), waitMs)
  let answer = ''
  socket.on('data', (chunk) => {
    answer += chunk
  })
  await once(socket, 'close')
  return answer
}

test('a body that is overdue is answered with 408, as Node would', async () => {
  const answer = await exchange('/', 'body', 5 * LIMIT_MS)
  expect(answer).toMatch(/^HTTP\/1\.1 408 /)
  expect(answer).toContain('"error_type":"TimeoutError"')
})

test('an answer may take longer than that, and so may a file', async () => {
  expect(await exchange('/', 'body', 0)).toMatch(/^HTTP\/1\.1 200 .*late$/s)
  expect(await exchange('/file', 'body', 3 * LIMIT_MS)).toMatch(/^HTTP\/1\.1 200 .*taken$/s)
})
