import type { GeneratePiece } from '@mlx-training/contract'

/** Pieces that a callback brings, as they come; at last what `run` resolves with. `run` goes on whether they are taken or
 *  not, and is told by the signal when nobody will take any more. */
export async function* pieces<T>(
  run: (push: (piece: GeneratePiece) => void, signal: AbortSignal) => Promise<T>,
  outer: AbortSignal,
): AsyncGenerator<GeneratePiece, T> {
  const left = new AbortController()
  const waiting: GeneratePiece[] = []
  let wake = () => {}
  let ended = false
  const result = run(
    (piece) => {
      waiting.push(piece)
      wake()
    },
    AbortSignal.any([outer, left.signal]),
  ).finally(() => {
    ended = true
    wake()
  })
  result.catch(() => {})
  try {
    while (!ended || waiting.length > 0) {
      yield* waiting.splice(0)
      if (!ended && waiting.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve
        })
    }
    return await result
  } finally {
    left.abort()
  }
}
