/** One answer of one model: what it says, how long it took, or why there is none. */
import { setTimeout as sleep } from 'node:timers/promises'
import { PROVIDER_CLASS, ServiceError } from '@mlx-training/contract'
import type { Providers } from '../providers/index.ts'
import type { GenerateInput, GenerateOutput, Provider } from '../providers/port.ts'
import { Gate } from './gate.ts'

/** Questions to one provider at a time. The engine decodes them side by side (16 by default) and others use it, too. */
const LOCAL_AT_ONCE = 8
const HOSTED_AT_ONCE = 4
/** The engine's queue is shared: a question that finds it full is asked again, so many times. */
const TRIES = 10
const LONGEST_WAIT_S = 10

export interface Answered {
  output: GenerateOutput
  provider: string
  firstTokenMs: number | null
  totalMs: number
  /** By the configured prices. */
  cost: number | null
}

export type Question = Omit<GenerateInput, 'model'>

export interface Asker {
  /** ServiceErrors: those of the provider; what is wrong with the model's name; the signal's reason once that aborts. */
  ask(model: string, question: Question, signal: AbortSignal): Promise<Answered>
}

/** Bounded for each provider; local models of one base share their steps (the engine's batch). */
export function createAsker(providers: Pick<Providers, 'route' | 'cost'>, localAtOnce = LOCAL_AT_ONCE): Asker {
  const gates = new Map<Provider, Gate>()

  function gateOf(provider: Provider): Gate {
    const gate = gates.get(provider) ?? new Gate(provider.name === 'local_mlx' ? localAtOnce : HOSTED_AT_ONCE)
    gates.set(provider, gate)
    return gate
  }

  return {
    async ask(model, question, signal) {
      const { provider, model: name } = providers.route({ model })
      const input = { ...question, model: name }
      const answered = await gateOf(provider).through(signal, () => patiently(provider, input, signal))
      return { ...answered, cost: providers.cost(provider.name, name, answered.output)?.total ?? null }
    },
  }
}

type Measured = Omit<Answered, 'cost'>

async function patiently(provider: Provider, input: GenerateInput, signal: AbortSignal): Promise<Measured> {
  for (let tried = 1; ; tried++) {
    try {
      return await measured(provider, input, signal)
    } catch (error) {
      signal.throwIfAborted()
      const full = error instanceof ServiceError && error.code === 'rate_limited' && provider.name === 'local_mlx'
      if (!full || tried === TRIES) throw error
      await sleep(1000 * Math.min(error.retryAfter ?? 1, LONGEST_WAIT_S), undefined, { signal })
    }
  }
}

async function measured(provider: Provider, input: GenerateInput, signal: AbortSignal): Promise<Measured> {
  const start = performance.now()
  const pieces = provider.stream(input, signal)
  let firstTokenMs: number | null = null
  for (;;) {
    const next = await pieces.next()
    if (next.done) {
      const totalMs = performance.now() - start
      return { output: next.value, provider: PROVIDER_CLASS[provider.name], firstTokenMs, totalMs }
    }
    if (next.value.text) firstTokenMs ??= performance.now() - start
  }
}
