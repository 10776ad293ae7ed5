import { type ApiError, type Remote, secretOf, toServiceError } from './failures.ts'
import type { Try } from './hosted.ts'
import type { Availability } from './port.ts'
import { redact } from './redact.ts'
import { createTransport } from './transport.ts'

export interface LookOptions {
  /** How long an answer counts; half a minute at most when it was a bad one. */
  keptMs: number
  timeoutMs: number
}

const BAD_KEPT_MS = 30_000
const MAX_MODELS = 500
const MAX_BYTES = 16 * 1024 * 1024
/** As providers name theirs: vendor/model:tag, ft:gpt-4.1:org::id, model@version. */
const MODEL_NAME = /^[\w.:@/+ -]{1,200}$/

/** Whether a provider can be used, as far as is known now: nobody waits. What is older than `keptMs` is asked for again in the
 *  background, by the list of models, which costs nothing. Before the first answer the configuration tells. */
export function createLook(
  remote: Remote,
  { keptMs, timeoutMs }: LookOptions,
  listModels: (given: Try) => Promise<unknown[]>,
): () => Availability {
  const { apiKey, keyVariable } = remote
  if (apiKey === null) {
    const absent: Availability = { available: false, state: 'no_key', reason: `set ${keyVariable}`, checkedAt: null }
    return () => absent
  }
  // A key promises more than an address on this machine.
  const unchecked =
    remote.name === 'ollama'
      ? { available: false, reason: 'not asked yet: ask again in a second' }
      : { available: true }
  let known: Availability = { ...unchecked, state: 'unchecked', checkedAt: null }
  let staleAt = 0
  let asking = false

  async function ask(): Promise<Availability> {
    const limits = { firstByteMs: timeoutMs, idleMs: timeoutMs, maxBytes: MAX_BYTES }
    const fetch = createTransport(apiKey as string, limits)
    const signal = AbortSignal.timeout(timeoutMs)
    const checkedAt = () => new Date().toISOString()
    try {
      const names = await listModels({ apiKey: apiKey as string, fetch, signal, streamed: false, ended: () => false })
      const models = names.filter((name): name is string => typeof name === 'string' && MODEL_NAME.test(name))
      const clean = models.slice(0, MAX_MODELS).map((name) => redact(name, secretOf(remote)))
      return { available: true, state: 'available', checkedAt: checkedAt(), models: clean.sort() }
    } catch (error) {
      const late = `${remote.name} gave no answer within ${timeoutMs / 1000} s`
      const found = signal.aborted ? { ...UNREACHABLE, reason: late } : judged(error, remote)
      return { ...found, checkedAt: checkedAt() }
    }
  }

  return () => {
    if (!asking && Date.now() >= staleAt) {
      asking = true
      void ask().then((answer) => {
        known = answer
        staleAt = Date.now() + (answer.state === 'available' ? keptMs : Math.min(keptMs, BAD_KEPT_MS))
        asking = false
      })
    }
    return known
  }
}

const UNREACHABLE = { available: false, state: 'unreachable' } as const

function judged(error: unknown, remote: Remote): Omit<Availability, 'checkedAt'> {
  const { reason, message } = toServiceError(error as ApiError, remote, '')
  switch (reason) {
    case 'bad_key':
    case 'forbidden':
    case 'quota':
      return { available: false, state: 'bad_key', reason: message }
    // It is there and takes the key, but is busy, or has no such list.
    case 'rate_limit':
    case 'model_not_found':
    case 'bad_answer':
      return { available: true, state: 'available' }
    default:
      return { ...UNREACHABLE, reason: remote.name === 'ollama' ? `${message}: start it, or set OLLAMA_HOST` : message }
  }
}
