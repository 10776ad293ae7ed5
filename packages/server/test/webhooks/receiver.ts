/** A real HTTP receiver of webhooks: checks each with the official library, and answers what the test says. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'

export const SECRET = `whsec_${Buffer.alloc(32, 7).toString('base64')}`

export interface Received {
  id: string
  path: string
  headers: IncomingHttpHeaders
  // biome-ignore lint/suspicious/noExplicitAny: the test looks at what it knows
  payload: any
}

export interface Receiver {
  url: string
  /** All that were signed rightly. */
  received: Received[]
  /** Why others were not. */
  refused: unknown[]
  /** A status, or nothing to leave the request unanswered. */
  answer: (received: Received, response: ServerResponse) => number | undefined
  close(): Promise<void>
}

export async function openReceiver(port = 0, secret = SECRET): Promise<Receiver> {
  const webhook = new Webhook(secret)
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { headers } = request
    try {
      const payload = webhook.verify(body, headers as Record<string, string>)
      const one = { id: String(headers['webhook-id']), path: request.url ?? '', headers, payload }
      receiver.received.push(one)
      const status = receiver.answer(one, response)
      if (status !== undefined && !response.writableEnded) response.writeHead(status).end('thanks')
    } catch (error) {
      receiver.refused.push(error)
      response.writeHead(401).end()
    }
  })
  await new Promise<void>((listening) => server.listen(port, '127.0.0.1', listening))
  const receiver: Receiver = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received: [],
    refused: [],
    answer: () => 204,
    close: () =>
      new Promise<void>((closed) => {
        server.close(() => closed())
        server.closeAllConnections()
      }),
  }
  return receiver
}
