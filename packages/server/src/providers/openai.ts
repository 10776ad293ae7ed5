import OpenAI from 'openai'
import { passed } from './extra.ts'
import { whole } from './pieces.ts'
import type { Availability, Extra, GenerateInput, GenerateOutput, Provider } from './port.ts'
import {
  type ApiError,
  calling,
  type HostedOptions,
  keyed,
  messageOf,
  needKey,
  providerFetch,
  type Remote,
  turns,
} from './wire.ts'

export interface OpenAICompatible extends Remote {
  /** Of the OpenAI API; baseUrl when left out. */
  apiUrl?: string
  /** OpenAI deprecated max_tokens, which its reasoning models refuse; the others know only that. */
  tokenLimit: 'max_tokens' | 'max_completion_tokens'
  /** Fields of ours that its API has under the same names. */
  takes: readonly (keyof Extra)[]
  /** Whether a key is set, when left out. */
  availability?: () => Promise<Availability>
  /** Continues plain text where the API's /completions would not (Ollama puts its chat template around it). */
  complete?: (client: OpenAI, input: GenerateInput, signal: AbortSignal) => Promise<GenerateOutput>
}

/** OpenAI and what speaks its API: chat completions, and completions for plain text. */
export function createOpenAIProvider(remote: OpenAICompatible, options: HostedOptions): Provider {
  const complete = remote.complete ?? completion
  const provider: Provider = {
    name: remote.name,
    availability: remote.availability ?? (async () => keyed(remote)),
    stream: (input, signal) => whole(provider.generate(input, signal)),
    async generate(asked, signal) {
      const input = { ...asked, extra: passed(remote.name, asked, remote.takes) }
      const client = new OpenAI({
        apiKey: needKey(remote),
        baseURL: remote.apiUrl ?? remote.baseUrl,
        maxRetries: options.maxRetries,
        timeout: options.timeoutMs,
        fetch: providerFetch,
        logLevel: 'off',
        // Left out, these come from OPENAI_… variables, whichever provider this is.
        organization: null,
        project: null,
        adminAPIKey: null,
        webhookSecret: null,
      })
      return await calling(remote, options, signal, input.model, (signal) =>
        input.messages ? chat(client, remote, input, input.messages, signal) : complete(client, input, signal),
      )
    },
  }
  return provider
}

async function chat(
  client: OpenAI,
  { tokenLimit }: OpenAICompatible,
  input: GenerateInput,
  messages: NonNullable<GenerateInput['messages']>,
  signal: AbortSignal,
): Promise<GenerateOutput> {
  const ask = async (sampling: { temperature?: number; top_p?: number }) => {
    const answer = await client.chat.completions.create(
      { ...common(input), ...sampling, messages: turns(messages), [tokenLimit]: input.maxTokens },
      { signal },
    )
    const choice = answer.choices[0]
    return output(answer, choice?.message.content ?? choice?.message.refusal ?? '', choice?.finish_reason)
  }
  try {
    return await ask({ temperature: input.temperature, top_p: input.topP })
  } catch (error) {
    if (!takesNoSampling(error as ApiError)) throw error
    return await ask({})
  }
}

/** OpenAI's reasoning models refuse any temperature and top_p, and every request carries some: the contract's defaults. */
const takesNoSampling = (error: ApiError): boolean =>
  error.status === 400 && /(temperature|top_p).*not support/i.test(messageOf(error))

async function completion(client: OpenAI, input: GenerateInput, signal: AbortSignal): Promise<GenerateOutput> {
  const answer = await client.completions.create(
    {
      ...common(input),
      prompt: input.prompt ?? '',
      max_tokens: input.maxTokens,
      temperature: input.temperature,
      top_p: input.topP,
    },
    { signal },
  )
  return output(answer, answer.choices[0]?.text ?? '', answer.choices[0]?.finish_reason)
}

const common = (input: GenerateInput) => ({
  model: input.model,
  ...(input.stop.length && { stop: input.stop }),
  ...(input.seed !== null && { seed: input.seed }),
  // Those that `passed` has let through: logprobs, a number here and a flag there, are not among them.
  ...(input.extra as Omit<Extra, 'logprobs'>),
})

function output(
  { model, usage }: { model: string; usage?: { completion_tokens: number; prompt_tokens: number } | null },
  text: string,
  reason: string | null | undefined,
): GenerateOutput {
  return {
    text,
    model,
    tokensGenerated: usage?.completion_tokens ?? 0,
    promptTokens: usage?.prompt_tokens ?? null,
    // Together says "eos" where the model ended by itself.
    finishReason: reason === 'length' ? 'length' : reason === 'stop' || reason === 'eos' ? 'stop' : null,
  }
}
