/** Several requests to a provider as one: what fails, or is cancelled, ends all of them. */
import type { GeneratePiece } from '@mlx-training/contract'
import type { GenerateInput, GenerateOutput, Provider } from '../providers/port.ts'

export async function generateAll(
  provider: Provider,
  inputs: readonly GenerateInput[],
  outer: AbortSignal,
): Promise<GenerateOutput[]> {
  const stop = new AbortController()
  const signal = AbortSignal.any([outer, stop.signal])
  try {
    return await Promise.all(inputs.map((input) => provider.generate(input, signal)))
  } finally {
    stop.abort()
  }
}

/** Pieces as they come, with the answers numbered through, of which each input has `width`; at last all outputs. */
export async function* streamAll(
  provider: Provider,
  inputs: readonly GenerateInput[],
  width: number,
  outer: AbortSignal,
): AsyncGenerator<GeneratePiece, GenerateOutput[]> {
  const stop = new AbortController()
  const signal = AbortSignal.any([outer, stop.signal])
  const outputs: GenerateOutput[] = []
  const open = new Map<number, Promise<() => Iterable<GeneratePiece>>>()
  const ask = (i: number, stream: AsyncGenerator<GeneratePiece, GenerateOutput>) => {
    const next = stream.next().then((result) => () => {
      if (result.done) {
        outputs[i] = result.value
        open.delete(i)
        return []
      }
      ask(i, stream)
      return [{ ...result.value, index: i * width + result.value.index }]
    })
    next.catch(() => {})
    open.set(i, next)
  }
  try {
    for (const [i, input] of inputs.entries()) ask(i, provider.stream(input, signal))
    while (open.size > 0) yield* (await Promise.race(open.values()))()
    return outputs
  } finally {
    stop.abort()
  }
}
