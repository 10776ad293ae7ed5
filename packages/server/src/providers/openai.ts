import type { GeneratePiece } from '@mlx-training/contract'
import OpenAI from 'openai'
import { passed } from './extra.ts'
import { type ApiError, CutShort, type Remote, wordsOf } from './failures.ts'
import { type Attempt, type HostedOptions, hosted, type Try, turns } from './hosted.ts'
import { createLook, type LookOptions } from './look.ts'
import type { Extra, GenerateInput, GenerateOutput, Provider } from './port.ts'

export interface OpenAICompatible extends Remote {
  /** Of the OpenAI API; baseUrl when left out. */
  apiUrl?: string
  /** What is sent first, see tokenLimitAt. */
  tokenLimit: TokenLimit
  /** Fields of ours that its API has under the same names. */
  takes: readonly (keyof Extra)[]
  /** Continues plain text where the API's /completions would not (Ollama puts its chat template around it). */
  complete?: (client: OpenAI, input: GenerateInput, given: Try) => AsyncGenerator<GeneratePiece, GenerateOutput>
}

type TokenLimit = 'max_tokens' | 'max_completion_tokens'

/** OpenAI deprecated max_tokens, which its reasoning models refuse; others know only that, and what they don't know they pass over
 *  without a word: llama-cpp-python's server answered without any limit. A gateway to OpenAI's models says so, and is asked again. */
export const tokenLimitAt = (baseUrl: string): TokenLimit =>
  new URL(baseUrl).hostname === 'api.openai.com' ? 'max_completion_tokens' : 'max_tokens'

/** OpenAI and what speaks its API: chat completions, and completions for plain text. */
export function createOpenAIProvider(remote: OpenAICompatible, options: HostedOptions, look: LookOptions): Provider {
  const complete = remote.complete ?? completion
  const attempt: Attempt = (input, given) => {
    const client = createClient(remote, given, options)
    return input.messages ? chat(client, remote, input, given) : complete(client, input, given)
  }
  const prepare = (input: GenerateInput) => {
    if (input.messages) turns(input.messages)
    return { ...input, extra: passed(remote.name, input, remote.takes) }
  }
  return {
    name: remote.name,
    availability: createLook(remote, look, (given) => listModels(createClient(remote, given, options), given.signal)),
    ...hosted(remote, options, prepare, attempt),
  }
}

function createClient(remote: OpenAICompatible, { apiKey, fetch }: Try, { totalMs }: HostedOptions): OpenAI {
  return new OpenAI({
    apiKey,
    baseURL: remote.apiUrl ?? remote.baseUrl,
    maxRetries: 0,
    timeout: totalMs,
    fetch,
    logLevel: 'off',
    // Left out, these come from OPENAI_… variables, whichever provider this is.
    organization: null,
    project: null,
    adminAPIKey: null,
    webhookSecret: null,
  })
}

/** {data: […]} as OpenAI has it, or the bare list that Together answers with. */
async function listModels(client: OpenAI, signal: AbortSignal): Promise<unknown[]> {
  const answer = await client.get<unknown>('/models', { signal })
  const list = Array.isArray(answer) ? answer : (answer as { data?: unknown }).data
  if (!Array.isArray(list)) throw new SyntaxError('not a list of models')
  // Together tells the kind; images and sound are not generated here.
  return list
    .filter(({ type }) => type === undefined || ['chat', 'language', 'code'].includes(type))
    .map(({ id }) => id)
}

async function* chat(
  client: OpenAI,
  { tokenLimit }: OpenAICompatible,
  input: GenerateInput,
  given: Try,
): AsyncGenerator<GeneratePiece, GenerateOutput> {
  const ask = (limit: TokenLimit, sampling: { temperature?: number; top_p?: number }) =>
    answered(given, (options) =>
      client.chat.completions.create(
        {
          ...common(input),
          ...sampling,
          messages: turns(input.messages ?? []),
          [limit]: input.maxTokens,
          ...options,
        },
        { signal: given.signal },
      ),
    )
  let limit = tokenLimit
  let sampling: object = { temperature: input.temperature, top_p: input.topP }
  for (;;) {
    try {
      return yield* ask(limit, sampling)
    } catch (error) {
      if (limit === 'max_tokens' && wantsOtherLimit(error as ApiError)) limit = 'max_completion_tokens'
      else if ('temperature' in sampling && takesNoSampling(error as ApiError)) sampling = {}
      else throw error
    }
  }
}

const wantsOtherLimit = (error: ApiError): boolean =>
  error.status === 400 && /max_tokens.*max_completion_tokens/i.test(wordsOf(error))

/** OpenAI's reasoning models refuse any temperature and top_p, and every request carries some: the contract's defaults. */
const takesNoSampling = (error: ApiError): boolean =>
  error.status === 400 && /(temperature|top_p).*not support/i.test(wordsOf(error))

const completion = (client: OpenAI, input: GenerateInput, given: Try): AsyncGenerator<GeneratePiece, GenerateOutput> =>
  answered(given, (options) =>
    client.completions.create(
      {
        ...common(input),
        prompt: input.prompt ?? '',
        max_tokens: input.maxTokens,
        temperature: input.temperature,
        top_p: input.topP,
        ...options,
      },
      { signal: given.signal },
    ),
  )

const common = (input: GenerateInput) => ({
  model: input.model,
  ...(input.stop.length && { stop: input.stop }),
  ...(input.seed !== null && { seed: input.seed }),
  // Those that `passed` has let through: logprobs, a number here and a flag there, tools and response_format are not among them.
  ...(input.extra as Omit<Extra, 'logprobs' | 'tools' | 'response_format'>),
})

/** What answers and chunks of both endpoints have in common. */
interface Part {
  model: string
  choices: {
    text?: string
    message?: { content: string | null; refusal?: string | null }
    delta?: { content?: string | null; refusal?: string | null }
    finish_reason: string | null
  }[]
  usage?: Usage | null
}
interface Usage {
  prompt_tokens: number
  completion_tokens: number
  prompt_tokens_details?: { cached_tokens?: number }
  /** Together's place for it. */
  cached_tokens?: number
}

async function* answered(
  { streamed, ended }: Try,
  // The SDK's overloads tell streams from answers by a literal; here one place asks for both.
  create: (options: object) => PromiseLike<unknown>,
): AsyncGenerator<GeneratePiece, GenerateOutput> {
  if (!streamed) {
    const answer = (await create({})) as Part
    const [choice] = answer.choices
    const text = choice?.text ?? choice?.message?.content ?? choice?.message?.refusal ?? ''
    return outputOf(text, answer.model, choice?.finish_reason ?? null, answer.usage ?? null, 0)
  }
  const chunks = (await create({ stream: true, stream_options: { include_usage: true } })) as AsyncIterable<Part>
  let [text, model, pieces] = ['', '', 0]
  let reason: string | null = null
  let usage: Usage | null = null
  for await (const chunk of chunks) {
    model = chunk.model ?? model
    usage = chunk.usage ?? usage
    // The chunk that tells usage has no choice; Azure's first one neither.
    const choice = chunk.choices?.[0]
    reason = choice?.finish_reason ?? reason
    const piece = choice?.text ?? choice?.delta?.content ?? choice?.delta?.refusal
    if (!piece) continue
    text += piece
    pieces++
    yield { text: piece, index: 0 }
  }
  // Some gateways tell no reason; what ends with [DONE] is whole all the same.
  if (reason === null && !(text && ended())) throw new CutShort()
  return outputOf(text, model, reason, usage, pieces)
}

/** @param pieces stands for the number of tokens where none is told */
function outputOf(
  text: string,
  model: string,
  reason: string | null,
  usage: Usage | null,
  pieces: number,
): GenerateOutput {
  const cachedTokens = usage?.prompt_tokens_details?.cached_tokens ?? usage?.cached_tokens
  return {
    text,
    model,
    tokensGenerated: usage?.completion_tokens ?? pieces,
    promptTokens: usage?.prompt_tokens ?? null,
    finishReason: FINISH[reason ?? ''] ?? null,
    ...(cachedTokens !== undefined && { cachedTokens }),
  }
}

const FINISH: Record<string, GenerateOutput['finishReason']> = {
  stop: 'stop',
  // Together's, where the model ended by itself.
  eos: 'stop',
  length: 'length',
  content_filter: 'content_filter',
}
