import { readFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** An exchange as the provider documents it; `{{key}}` and `{{elsewhere}}` stand for the test's key and another host. */
interface Exchange {
  method: string
  path: string
  status: number
  headers?: Record<string, string>
  body: unknown
}

export interface Received {
  method: string
  path: string
  headers: IncomingHttpHeaders
  body: Record<string, unknown>
}

/** `slow` never answers; `reset` cuts the connection before an answer, `broken` in the middle of one. */
export type Turn = string | 'slow' | 'reset' | 'broken'

/** A provider that replays recorded exchanges over real HTTP, in the order given by `play`. */
export class StandIn {
  readonly received: Received[] = []
  readonly #recorded: Record<string, Exchange>
  readonly #replace: Record<string, string>
  readonly #server: Server
  #turns: Turn[] = []

  private constructor(provider: string, replace: Record<string, string>) {
    const file = new URL(`./recorded/${provider}.json`, import.meta.url)
    this.#recorded = JSON.parse(readFileSync(file, 'utf8'))
    this.#replace = replace
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk)
      const text = Buffer.concat(chunks).toString()
      const { method = '', url: path = '', headers } = request
      this.received.push({ method, path, headers, body: text ? JSON.parse(text) : {} })
      this.#answer(method, path, response)
    })
  }

  static async start(provider: string, replace: Record<string, string> = {}): Promise<StandIn> {
    const standIn = new StandIn(provider, replace)
    await new Promise<void>((resolve) => standIn.#server.listen(0, '127.0.0.1', resolve))
    return standIn
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  play(...turns: Turn[]): void {
    this.#turns = turns
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #answer(method: string, path: string, response: ServerResponse): void {
    const turn = this.#turns.shift()
    if (turn === 'slow') return
    if (turn === 'reset') {
      response.socket?.resetAndDestroy()
      return
    }
    if (turn === 'broken') {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1000 })
      response.write('{"id":', () => response.destroy())
      return
    }
    const exchange = this.#recorded[turn ?? '']
    if (exchange?.method !== method || exchange.path !== path) {
      response.writeHead(418).end(`not recorded: ${method} ${path} for ${turn}`)
      return
    }
    const text = typeof exchange.body === 'string' ? exchange.body : JSON.stringify(exchange.body)
    response.writeHead(exchange.status, {
      'content-type': 'application/json',
      ...mapValues(exchange.headers ?? {}, (value) => this.#filled(value)),
    })
    response.end(this.#filled(text))
  }

  #filled(text: string): string {
    return text.replace(/\{\{(\w+)\}\}/g, (_, name: string) => this.#replace[name] ?? '')
  }
}

const mapValues = (record: Record<string, string>, change: (value: string) => string): Record<string, string> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]))
