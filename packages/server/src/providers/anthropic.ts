import Anthropic from '@anthropic-ai/sdk'
import { type GeneratePiece, ServiceError } from '@mlx-training/contract'
import { passed } from './extra.ts'
import { CutShort, type Remote } from './failures.ts'
import { type HostedOptions, hosted, type Try, turns } from './hosted.ts'
import { createLook, type LookOptions } from './look.ts'
import type { GenerateInput, GenerateOutput, Provider } from './port.ts'

/** Anthropic's Messages API. It has no seed, and since version 2026-10-21 (the SDK's) no temperature and no top_p: a request
 *  that carries one is refused even at its default. They are not sent, so they have no effect here. */
export function createAnthropicProvider(remote: Remote, options: HostedOptions, look: LookOptions): Provider {
  const createClient = ({ apiKey, fetch }: Try) =>
    new Anthropic({
      apiKey,
      baseURL: remote.baseUrl,
      maxRetries: 0,
      timeout: options.totalMs,
      fetch,
      logLevel: 'off',
      openTelemetry: false,
      webhookKey: null,
    })
  return {
    name: remote.name,
    availability: createLook(remote, look, async (given) => {
      const page = await createClient(given).models.list({ limit: 1000 }, { signal: given.signal })
      return page.data.map(({ id }) => id)
    }),
    ...hosted(remote, options, prepare, (input, given) => message(createClient(given), input, given)),
  }
}

function prepare(input: GenerateInput): GenerateInput {
  passed('anthropic', input, [])
  if (input.messages) {
    turns(input.messages)
    return input
  }
  const message = 'anthropic has only chat models: leave raw out'
  throw new ServiceError('invalid_parameters', `raw: ${message}`, { errors: [{ field: 'raw', message, given: true }] })
}

async function* message(
  client: Anthropic,
  input: GenerateInput,
  { signal, streamed }: Try,
): AsyncGenerator<GeneratePiece, GenerateOutput> {
  const said = turns(input.messages ?? [])
  const system = said.filter(({ role }) => role === 'system').map(({ content }) => content)
  const request = {
    model: input.model,
    max_tokens: input.maxTokens,
    messages: said.flatMap(({ role, content }) => (role === 'system' ? [] : [{ role, content }])),
    ...(system.length && { system: system.join('\n\n') }),
    ...(input.stop.length && { stop_sequences: input.stop }),
  }
  if (!streamed) {
    const answer = await client.messages.create(request, { signal })
    const text = answer.content.map((block) => (block.type === 'text' ? block.text : '')).join('')
    return outputOf(text, answer.model, answer.stop_reason, answer.usage, 0)
  }
  let [text, model, pieces] = ['', '', 0]
  let reason: string | null = null
  let usage: Usage = {}
  for await (const event of await client.messages.create({ ...request, stream: true }, { signal })) {
    if (event.type === 'message_start') {
      model = event.message.model
      usage = event.message.usage
    } else if (event.type === 'message_delta') {
      reason = event.delta.stop_reason
      usage = { ...usage, ...told(event.usage) }
    } else if (event.type === 'content_block_delta' && event.delta.type === 'text_delta' && event.delta.text) {
      text += event.delta.text
      pieces++
      yield { text: event.delta.text, index: 0 }
    }
  }
  if (reason === null) throw new CutShort()
  return outputOf(text, model, reason, usage, pieces)
}

interface Usage {
  input_tokens?: number | null
  output_tokens?: number | null
  cache_creation_input_tokens?: number | null
  cache_read_input_tokens?: number | null
}

/** The counts of a message_delta are those of the whole answer so far; of the prompt it may tell none. */
const told = (usage: object): Usage =>
  Object.fromEntries(Object.entries(usage ?? {}).filter(([, count]) => typeof count === 'number'))

function outputOf(text: string, model: string, reason: string | null, usage: Usage, pieces: number): GenerateOutput {
  const cachedTokens = usage.cache_read_input_tokens ?? 0
  // What is read from the cache or written to it isn't in input_tokens.
  const prompt = (count: number) => count + cachedTokens + (usage.cache_creation_input_tokens ?? 0)
  return {
    text,
    model,
    tokensGenerated: usage.output_tokens ?? pieces,
    promptTokens: typeof usage.input_tokens === 'number' ? prompt(usage.input_tokens) : null,
    finishReason: FINISH[reason ?? ''] ?? null,
    ...(usage.cache_read_input_tokens != null && { cachedTokens }),
  }
}

const FINISH: Record<string, GenerateOutput['finishReason']> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  max_tokens: 'length',
  model_context_window_exceeded: 'length',
  refusal: 'content_filter',
}
