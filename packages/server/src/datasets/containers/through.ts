import { type Duplex, pipeline } from 'node:stream'

/**
 * Runs bytes through a transform and yields what comes out. An error of either side ends it; when the reader stops early,
 * both sides are closed before this returns.
 */
export async function* through<T>(chunks: AsyncIterable<Buffer>, transform: Duplex): AsyncGenerator<T> {
  let closed: (() => void) | undefined
  const closing = new Promise<void>((resolve) => {
    closed = resolve
  })
  const output: AsyncIterable<T> = pipeline(chunks, transform, () => closed?.())
  try {
    yield* output
  } finally {
    transform.destroy()
    await closing
  }
}
