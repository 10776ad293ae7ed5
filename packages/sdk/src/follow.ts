/** A job's events, over as many connections as it takes. */
import type { JobEvent } from '@mlx-training/contract'
import { ApiError, ConnectionError } from './errors.ts'
import { type Message, messagesOf } from './sse.ts'
import { MINUTE, pause, SECOND, type Transport } from './transport.ts'

export interface FollowOptions {
  /** Only events after this id; default 0, all. */
  after?: number
  signal?: AbortSignal
  /** Milliseconds for which a server that is away is tried again. Default 5 minutes: a restart with a large model fits. */
  patience?: number
}

const FIRST_WAIT = 0.25 * SECOND
const LONGEST_WAIT = 5 * SECOND

/** Ends after the last `end` event. ApiErrors (no such job, wrong key) at once; ConnectionError when patience is over. */
export async function* followEvents(
  transport: Transport,
  path: string,
  { after = 0, signal, patience = 5 * MINUTE }: FollowOptions,
): AsyncGenerator<JobEvent, void> {
  let last = after
  let wait = FIRST_WAIT
  let awaySince: number | null = null
  let ended = false
  let empty = 0
  for (;;) {
    try {
      empty++
      for await (const { data } of open(transport, path, last, signal)) {
        const event = JSON.parse(data) as JobEvent
        awaySince = null
        empty = 0
        wait = FIRST_WAIT
        last = event.id
        yield event
        ended = event.type === 'end'
      }
      // The server ends a stream after the end of a job; one that was resumed has earlier ends as well. When nothing came,
      // nothing was left to come, or the server shuts down, which it does not do twice in a row.
      if (ended || empty > 1) return
      awaySince ??= Date.now()
    } catch (error) {
      empty = 0
      if (signal?.aborted) throw signal.reason
      if (!passing(error)) throw error
      awaySince ??= Date.now()
      if (Date.now() - awaySince > patience) throw error
    }
    if (Date.now() - awaySince > patience)
      throw new ConnectionError(`GET ${path}: no event came over any connection for ${patience / SECOND} s`)
    await pause(wait * (0.5 + Math.random() / 2), signal)
    wait = Math.min(2 * wait, LONGEST_WAIT)
  }
}

async function* open(
  transport: Transport,
  path: string,
  last: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Message> {
  const response = await transport.send({
    method: 'GET',
    path,
    signal,
    maxRetries: 0,
    ...(last > 0 && { headers: { 'last-event-id': String(last) } }),
  })
  if (!response.body) throw new ConnectionError(`GET ${path}: the answer has no body`)
  yield* messagesOf(response.body)
}

const passing = (error: unknown) =>
  error instanceof ConnectionError || (error instanceof ApiError && (error.status >= 500 || error.status === 429))
