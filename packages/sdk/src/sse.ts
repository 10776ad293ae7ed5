/** Server-sent events, as https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream has them. */
import { ConnectionError, ConnectionTimeoutError } from './errors.ts'
import { reasonOf, SECOND } from './transport.ts'

export interface Message {
  event: string
  data: string
  /** The last id that the stream has had so far. */
  id: string
}

/** The server sends a comment every 15 s: a stream that is silent for longer is dead. */
export const SILENCE = 45 * SECOND

/**
 * The messages of a stream. Ends when the stream does; ConnectionError when it breaks off, ConnectionTimeoutError after
 * `silence` milliseconds of nothing. The stream is cancelled when the reader leaves.
 */
export async function* messagesOf(body: ReadableStream<Uint8Array>, silence = SILENCE): AsyncGenerator<Message> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  const message = { event: '', data: [] as string[], id: '' }
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), silence)
      if (done) return
      // A CR at the very end may be half of a CRLF.
      const text = rest + decoder.decode(value, { stream: true })
      const lines = text.split(/\r\n|\n|\r(?!$)/)
      rest = lines.pop() ?? ''
      for (const line of lines) {
        if (line !== '') take(message, line)
        else if (message.data.length > 0) {
          yield { event: message.event || 'message', data: message.data.join('\n'), id: message.id }
          message.data = []
          message.event = ''
        } else message.event = ''
      }
    }
  } finally {
    await reader.cancel().catch(() => {})
  }
}

function take(message: { event: string; data: string[]; id: string }, line: string): void {
  const colon = line.indexOf(':')
  if (colon === 0) return
  const field = colon < 0 ? line : line.slice(0, colon)
  const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
  if (field === 'data') message.data.push(value)
  else if (field === 'event') message.event = value
  else if (field === 'id' && !value.includes('\0')) message.id = value
}

async function within<T>(read: Promise<T>, milliseconds: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(
      () => fail(new ConnectionTimeoutError(`the stream was silent for ${milliseconds / SECOND} s`)),
      milliseconds,
    )
  })
  try {
    return await Promise.race([read, late])
  } catch (error) {
    if (error instanceof ConnectionError) throw error
    throw new ConnectionError(`the stream broke off: ${reasonOf(error)}`, { cause: error })
  } finally {
    clearTimeout(timer)
  }
}
