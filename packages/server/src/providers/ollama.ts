import type OpenAI from 'openai'
import type { OpenAICompatible } from './openai.ts'
import type { Availability, GenerateInput, GenerateOutput } from './port.ts'

const PROBE_TIMEOUT_MS = 1000
const PROBE_KEPT_MS = 10_000

/** Ollama by its OpenAI-compatible API; plain text by its own, which alone has `raw`.
 *  https://github.com/ollama/ollama/blob/main/docs/api.md */
export function ollama(baseUrl: string): OpenAICompatible {
  return {
    name: 'ollama',
    baseUrl,
    apiUrl: `${baseUrl}/v1`,
    // Ollama has no keys; the SDK insists on one.
    apiKey: 'ollama',
    keyVariable: 'OLLAMA_API_KEY',
    urlVariable: 'OLLAMA_HOST',
    modelHint: 'Get it with "ollama pull"',
    tokenLimit: 'max_tokens',
    takes: ['presence_penalty', 'frequency_penalty'],
    availability: cachedProbe(baseUrl),
    complete: (client, input, signal) => generateRaw(client, baseUrl, input, signal),
  }
}

interface GenerateAnswer {
  model: string
  response: string
  done_reason?: string
  eval_count?: number
  prompt_eval_count?: number
}

async function generateRaw(
  client: OpenAI,
  baseUrl: string,
  input: GenerateInput,
  signal: AbortSignal,
): Promise<GenerateOutput> {
  const answer = await client.post<GenerateAnswer>(`${baseUrl}/api/generate`, {
    signal,
    body: {
      model: input.model,
      prompt: input.prompt,
      raw: true,
      stream: false,
      options: {
        num_predict: input.maxTokens,
        temperature: input.temperature,
        top_p: input.topP,
        stop: input.stop,
        ...(input.seed !== null && { seed: input.seed }),
        ...input.extra,
      },
    },
  })
  return {
    text: answer.response,
    model: answer.model,
    tokensGenerated: answer.eval_count ?? 0,
    promptTokens: answer.prompt_eval_count ?? null,
    finishReason: answer.done_reason === 'length' ? 'length' : answer.done_reason === 'stop' ? 'stop' : null,
  }
}

/** Asks at most once in 10 s and waits at most 1 s. */
function cachedProbe(baseUrl: string): () => Promise<Availability> {
  let last: { at: number; answer: Promise<Availability> } | null = null
  return () => {
    if (!last || Date.now() - last.at > PROBE_KEPT_MS) last = { at: Date.now(), answer: probe(baseUrl) }
    return last.answer
  }
}

async function probe(baseUrl: string): Promise<Availability> {
  const absent = {
    available: false,
    reason: `Ollama does not answer at ${new URL(baseUrl).host}: start it, or set OLLAMA_HOST`,
  }
  try {
    const response = await fetch(`${baseUrl}/api/tags`, {
      redirect: 'error',
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    })
    await response.body?.cancel()
    return response.ok ? { available: true } : absent
  } catch {
    return absent
  }
}
