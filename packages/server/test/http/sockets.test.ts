import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createService, type Service } from './service.ts'

// What never becomes a request of Fastify's: Node's parser refuses it, and the answer still has our shape.
let service: Service
let port: number
beforeAll(async () => {
  service = await createService()
  port = Number(new URL(await service.app.listen({ host: '127.0.0.1', port: 0 })).port)
})
afterAll(() => service.close())

/** Sends the text and reads until the server closes. */
function exchange(text: string): Promise<{ status: number; headers: string; body: unknown }> {
  return new Promise((done, failed) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(text))
    let answer = ''
    socket.on('data', (chunk) => {
      answer += chunk
    })
    socket.on('error', failed)
    socket.on('close', () => {
      const [headers = '', body = ''] = answer.split('\r\n\r\n')
      done({ status: Number(headers.split(' ')[1]), headers, body: body && JSON.parse(body) })
    })
  })
}

const HOST = 'Host: localhost\r\nConnection: close\r\n'

test.each([
  ['no HTTP at all', 'hello\r\n\r\n', 400],
  ['an unknown method', `BREW / HTTP/1.1\r\n${HOST}\r\n`, 400],
  ['a header without a name', `GET / HTTP/1.1\r\n${HOST}: x\r\n\r\n`, 400],
  ['two lengths', `POST /generate HTTP/1.1\r\n${HOST}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`, 400],
  [
    'a length and chunks: request smuggling',
    `POST /generate HTTP/1.1\r\n${HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
  ],
  ['headers without end', `GET / HTTP/1.1\r\n${HOST}X: ${'x'.repeat(20_000)}\r\n\r\n`, 400],
  ['no Host', 'GET /health HTTP/1.1\r\nConnection: close\r\n\r\n', 403],
  ['no Host, as HTTP/1.0 may', 'GET /health HTTP/1.0\r\n\r\n', 403],
  ['an expectation', `POST /generate HTTP/1.1\r\n${HOST}Expect: coffee\r\nContent-Length: 0\r\n\r\n`, 400],
  ['a tunnel', `CONNECT example.org:443 HTTP/1.1\r\n${HOST}\r\n`, 405],
])('%s', async (_, text, status) => {
  const answer = await exchange(text)
  expect(answer.status).toBe(status)
  expect(answer.headers.toLowerCase()).toContain('content-type: application/json')
  expect(answer.body).toMatchObject({
    status_code: status,
    detail: expect.stringMatching(/./),
    error_type: expect.stringMatching(/Error$/),
  })
})

test('an upgrade is an ordinary request', async () => {
  const answer = await exchange(
    `GET /health HTTP/1.1\r\n${HOST}Upgrade: websocket\r\n\r\n`.replace('close', 'upgrade, close'),
  )
  expect(answer.status).toBe(200)
})

test('a client that says it sends more than it does', async () => {
  const socket = connect(port, '127.0.0.1')
  socket.write(`POST /generate HTTP/1.1\r\n${HOST}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`)
  await new Promise((resume) => socket.once('connect', resume))
  socket.destroy()
  expect((await exchange(`GET /health HTTP/1.1\r\n${HOST}\r\n`)).status).toBe(200)
})

test('nothing of the server’s own limits how long an answer takes, or a file', () => {
  const { server } = service.app
  expect([server.requestTimeout, server.headersTimeout, server.timeout]).toEqual([0, 30_000, 0])
})
