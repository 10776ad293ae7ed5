/** POST /compare: the same prompts to several models, each answer measured and, with a reference, scored. */
import {
  type ChatMessage,
  type ComparedAnswer,
  type ComparedSummary,
  type CompareEvent,
  type CompareRequest,
  type CompareResponse,
  type FieldError,
  PROVIDER_CLASS,
  ServiceError,
} from '@mlx-training/contract'
import type { Providers } from '../providers/index.ts'
import type { Answered, Asker, Question } from './answer.ts'
import { meanScores, scoresOf } from './scores.ts'

type Item = NonNullable<CompareRequest['items']>[number]

/** Greedy answers need none, but a provider may take it, and with a temperature it makes them the same again. */
const SEED = 0

/** What is asked, in order. ServiceError('unprocessable') that names the fields and items that don't go. */
export function itemsOf(request: CompareRequest): Item[] {
  const { prompt, messages, system, reference, items, raw } = request
  const errors: FieldError[] = []
  const wrong = (field: string, message: string) => errors.push({ field, message })
  if (items) {
    for (const [field, value] of Object.entries({ prompt, messages, reference }))
      if (value !== undefined) wrong(field, 'does not go with items, each of which has its own')
    if (raw && system !== undefined) wrong('system', 'does not go with raw')
  }
  const own = items ?? [{ prompt, messages, system, reference }]
  const all = own.map((item) => ({ ...item, system: item.system ?? (item.messages ? undefined : system) }))
  for (const [i, item] of all.entries()) {
    const at = items ? `items.${i}.` : ''
    if ((item.prompt === undefined) === (item.messages === undefined))
      wrong(
        `${at}${item.prompt === undefined ? 'prompt' : 'messages'}`,
        items ? 'send either prompt or messages: one, not both' : 'send one of prompt, messages and items',
      )
    else if (raw && (item.messages || item.system !== undefined))
      wrong(
        `${at}${item.messages ? 'messages' : 'system'}`,
        'does not go with raw, which continues a prompt as plain text',
      )
    else if (item.messages && item.system !== undefined)
      wrong(`${at}system`, 'goes with prompt; with messages, put a message of the role system first')
  }
  if (errors.length > 0) {
    const said = errors.slice(0, 3).map(({ field, message }) => `${field}: ${message}`)
    throw new ServiceError('unprocessable', said.join('; '), { errors })
  }
  return all as Item[]
}

/** All answers as they come, in any order, then the whole. Leaving the loop, or the signal, cancels what is still asked. */
export async function* compare(
  request: CompareRequest,
  { asker, providers }: { asker: Asker; providers: Pick<Providers, 'route'> },
  outer: AbortSignal,
): AsyncGenerator<CompareEvent, CompareResponse> {
  const items = itemsOf(request)
  const left = new AbortController()
  const signal = AbortSignal.any([outer, left.signal])
  const answers = items.map((): ComparedAnswer[] => [])
  // Item by item, so that all models answer the first before any answers the last, and prompts are shared while warm.
  const pending = new Map(
    items
      .flatMap((item, i) => request.models.map((model, m) => ({ item, i, model, m })))
      .map(({ item, i, model, m }, number) => [
        number,
        answerOf(model, item, request, asker, providers, signal).then((answer) => ({ number, i, m, answer })),
      ]),
  )
  try {
    while (pending.size > 0) {
      const { number, i, m, answer } = await Promise.race(pending.values())
      pending.delete(number)
      const row = answers[i] as ComparedAnswer[]
      row[m] = answer
      yield { item: i, answer }
    }
    return {
      models: request.models,
      items: items.map(({ reference }, item) => ({
        item,
        reference: reference ?? null,
        answers: answers[item] as ComparedAnswer[],
      })),
      summary: request.models.map((model, m) =>
        summaryOf(
          model,
          answers.map((row) => row[m] as ComparedAnswer),
        ),
      ),
    }
  } finally {
    left.abort()
    await Promise.allSettled(pending.values())
  }
}

async function answerOf(
  model: string,
  item: Item,
  request: CompareRequest,
  asker: Asker,
  providers: Pick<Providers, 'route'>,
  signal: AbortSignal,
): Promise<ComparedAnswer> {
  try {
    const answered = await asker.ask(model, questionOf(item, request), signal)
    return { model, ...told(answered), scores: scoreOf(answered.output.text, item.reference), error: null }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof ServiceError)) throw error
    const { retryAfter } = error
    const { detail, status_code, error_type, reason } = error.toBody()
    const told = {
      detail,
      status_code,
      error_type,
      ...(reason && { reason }),
      ...(retryAfter !== undefined && { retry_after: retryAfter }),
    }
    return { model, ...NOTHING, provider: providerOf(model, providers), error: told }
  }
}

const NOTHING = {
  text: null,
  finish_reason: null,
  prompt_tokens: null,
  completion_tokens: null,
  first_token_ms: null,
  total_ms: null,
  tokens_per_second: null,
  cost: null,
  scores: null,
}

function told({ output, provider, firstTokenMs, totalMs, cost }: Answered) {
  return {
    provider,
    text: output.text,
    finish_reason: output.finishReason,
    prompt_tokens: output.promptTokens,
    completion_tokens: output.tokensGenerated,
    first_token_ms: firstTokenMs === null ? null : rounded(firstTokenMs),
    total_ms: rounded(totalMs),
    tokens_per_second: totalMs > 0 ? rounded((1000 * output.tokensGenerated) / totalMs) : null,
    cost,
  }
}

const scoreOf = (text: string, reference: string | undefined) =>
  reference === undefined ? null : scoresOf(text, reference)

function providerOf(model: string, providers: Pick<Providers, 'route'>): string | null {
  try {
    return PROVIDER_CLASS[providers.route({ model }).provider.name]
  } catch {
    return null
  }
}

function questionOf(item: Item, { raw, max_tokens, temperature, top_p, stop, seed }: CompareRequest): Question {
  const { prompt = '', messages, system } = item
  const turns: ChatMessage[] = messages ?? [
    ...(system === undefined ? [] : [{ role: 'system' as const, content: system }]),
    { role: 'user', content: prompt },
  ]
  return {
    messages: raw ? null : turns,
    prompt: raw ? prompt : null,
    maxTokens: max_tokens,
    temperature,
    topP: top_p,
    stop: stop === undefined ? [] : [stop].flat(),
    seed: seed ?? SEED,
  }
}

function summaryOf(model: string, answers: readonly ComparedAnswer[]): ComparedSummary {
  const good = answers.filter(({ error }) => error === null)
  const numbers = (name: 'first_token_ms' | 'total_ms' | 'tokens_per_second' | 'cost') =>
    good.map((answer) => answer[name]).filter((value) => value !== null)
  const sum = (name: 'prompt_tokens' | 'completion_tokens') =>
    good.reduce((total, answer) => total + (answer[name] ?? 0), 0)
  const costs = numbers('cost')
  const scores = good.map((answer) => answer.scores).filter((each) => each !== null)
  return {
    model,
    answered: good.length,
    failed: answers.length - good.length,
    prompt_tokens: sum('prompt_tokens'),
    completion_tokens: sum('completion_tokens'),
    first_token_ms: median(numbers('first_token_ms')),
    total_ms: median(numbers('total_ms')),
    tokens_per_second: median(numbers('tokens_per_second')),
    cost: costs.length > 0 ? costs.reduce((total, cost) => total + cost, 0) : null,
    scored: scores.length,
    scores: meanScores(scores),
  }
}

function median(values: number[]): number | null {
  if (values.length === 0) return null
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] as number
  return sorted.length % 2 ? upper : rounded((upper + (sorted[middle - 1] as number)) / 2)
}

const rounded = (value: number) => Math.round(value * 10) / 10
