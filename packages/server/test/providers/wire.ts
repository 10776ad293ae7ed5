import { readFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** An answer as it goes over the wire: numbers are pauses in ms, every text or buffer is an HTTP chunk of its own. */
export interface Answer {
  status?: number
  headers?: Record<string, string>
  parts?: (string | Uint8Array | number)[]
  /** After the parts: hang leaves the answer open, cut breaks the connection. */
  ends?: 'well' | 'hang' | 'cut'
}

export const recorded = (name: string): Buffer => readFileSync(new URL(`recorded/${name}`, import.meta.url))

export const sse = (...parts: (string | Uint8Array | number)[]): Answer => ({
  headers: { 'content-type': 'text/event-stream; charset=utf-8' },
  parts,
})

/** A server that answers request by request what the test lays out, over real HTTP. */
export class Wire {
  readonly received: { method: string; path: string; headers: IncomingHttpHeaders; body: Record<string, unknown> }[] =
    []
  /** Answers whose client left before their end. */
  left = 0
  answers: Answer[] = []
  readonly #server: Server

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk)
      const text = Buffer.concat(chunks).toString()
      const { method = '', url: path = '', headers } = request
      this.received.push({ method, path, headers, body: text ? JSON.parse(text) : {} })
      const answer = this.answers.shift() ?? { status: 418, parts: ['nothing more was laid out'] }
      response.on('close', () => {
        if (!response.writableFinished) this.left++
      })
      await send(response, answer)
    })
  }

  static async start(...answers: Answer[]): Promise<Wire> {
    const wire = new Wire()
    wire.answers = answers
    await new Promise<void>((resolve) => wire.#server.listen(0, '127.0.0.1', resolve))
    return wire
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

async function send(response: ServerResponse, { status = 200, headers, parts = [], ends = 'well' }: Answer) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  for (const part of parts) {
    if (response.destroyed) return
    if (typeof part === 'number') await sleep(part)
    else await new Promise((resolve) => response.write(part, resolve))
  }
  if (ends === 'well') response.end()
  else if (ends === 'cut') response.destroy()
  else response.flushHeaders()
}
