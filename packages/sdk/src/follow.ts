/** Events of streams, each once, over as many connections as it takes. */
import type { JobEvent, JobsChange } from '@mlx-training/contract'
import { ApiError, ConnectionError } from './errors.ts'
import { messagesOf } from './sse.ts'
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

export interface ChangesOptions extends Omit<FollowOptions, 'after'> {
  /** The `id` of the last change that is known: only what has changed since comes, if the server still knows. */
  lastEventId?: string
}

/** Ends after the last `end` event. ApiErrors (no such job, wrong key) at once; ConnectionError when patience is over. */
export function followEvents(
  transport: Transport,
  path: string,
  { after = 0, ...options }: FollowOptions,
): AsyncGenerator<JobEvent, void> {
  return follow(transport, path, after > 0 ? String(after) : '', options, ({ type }) => type === 'end')
}

/** Never ends of itself; fails as `followEvents` does. */
export function followChanges(
  transport: Transport,
  path: string,
  { lastEventId = '', ...options }: ChangesOptions,
): AsyncGenerator<JobsChange, void> {
  return follow(transport, path, lastEventId, options, null)
}

/** `isEnd`: of the event that may be the last; null: of a stream that has none. */
async function* follow<T extends { id: number | string }>(
  transport: Transport,
  path: string,
  after: string,
  { signal, patience = 5 * MINUTE }: Omit<FollowOptions, 'after'>,
  isEnd: ((event: T) => boolean) | null,
): AsyncGenerator<T, void> {
  let last = after
  let wait = FIRST_WAIT
  let awaySince: number | null = null
  let ended = false
  let empty = 0
  for (;;) {
    try {
      empty++
      const body = await open(transport, path, last, signal)
      // Where nothing has changed nothing comes, for as long as that is so: the server is there.
      if (!isEnd) awaySince = null
      for await (const { data } of messagesOf(body)) {
        const event = JSON.parse(data) as T
        awaySince = null
        empty = 0
        wait = FIRST_WAIT
        last = String(event.id)
        yield event
        ended = isEnd?.(event) ?? false
      }
      // The server ends a stream after the end of a job; one that was resumed has earlier ends as well. When nothing came,
      // nothing was left to come, or the server shuts down, which it does not do twice in a row.
      if (isEnd && (ended || empty > 1)) return
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

async function open(
  transport: Transport,
  path: string,
  last: string,
  signal: AbortSignal | undefined,
): Promise<ReadableStream<Uint8Array>> {
  const response = await transport.send({
    method: 'GET',
    path,
    signal,
    maxRetries: 0,
    ...(last !== '' && { headers: { 'last-event-id': last } }),
  })
  if (!response.body) throw new ConnectionError(`GET ${path}: the answer has no body`)
  return response.body
}

const passing = (error: unknown) =>
  error instanceof ConnectionError || (error instanceof ApiError && (error.status >= 500 || error.status === 429))
