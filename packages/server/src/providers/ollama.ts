import type { GeneratePiece } from '@mlx-training/contract'
import type OpenAI from 'openai'
import { CutShort } from './failures.ts'
import type { Try } from './hosted.ts'
import type { OpenAICompatible } from './openai.ts'
import type { GenerateInput, GenerateOutput } from './port.ts'

/** Ollama by its OpenAI-compatible API (whose /models are its local tags); plain text by its own, which alone has `raw`.
 *  https://github.com/ollama/ollama/blob/main/docs/api.md */
export function ollama(baseUrl: string): OpenAICompatible {
  return {
    name: 'ollama',
    baseUrl,
    apiUrl: `${baseUrl}/v1`,
    // Ollama has no keys; the SDK insists on one.
    apiKey: 'ollama',
    keyless: true,
    keyVariable: 'OLLAMA_API_KEY',
    urlVariable: 'OLLAMA_HOST',
    modelHint: 'Get it with "ollama pull"',
    tokenLimit: 'max_tokens',
    takes: ['presence_penalty', 'frequency_penalty'],
    complete: (client, input, given) => generateRaw(client, baseUrl, input, given),
  }
}

/** One line of a stream, or the whole. */
interface Answer {
  model: string
  response: string
  done: boolean
  done_reason?: string
  eval_count?: number
  prompt_eval_count?: number
  error?: string
}

async function* generateRaw(
  client: OpenAI,
  baseUrl: string,
  input: GenerateInput,
  { signal, streamed }: Try,
): AsyncGenerator<GeneratePiece, GenerateOutput> {
  const request = client.post<Answer>(`${baseUrl}/api/generate`, {
    signal,
    body: {
      model: input.model,
      prompt: input.prompt,
      raw: true,
      stream: streamed,
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
  if (!streamed) {
    const answer = await request
    return outputOf(answer, answer.response, 0)
  }
  let [text, pieces] = ['', 0]
  for await (const line of lines(await request.asResponse())) {
    const part = JSON.parse(line) as Answer
    if (part.error !== undefined) throw Object.assign(new Error(part.error), { error: part.error })
    if (part.response) {
      text += part.response
      pieces++
      yield { text: part.response, index: 0 }
    }
    if (part.done) return outputOf(part, text, pieces)
  }
  throw new CutShort()
}

function outputOf(last: Answer, text: string, pieces: number): GenerateOutput {
  return {
    text,
    model: last.model,
    tokensGenerated: last.eval_count ?? pieces,
    promptTokens: last.prompt_eval_count ?? null,
    finishReason: last.done_reason === 'length' ? 'length' : last.done_reason === 'stop' ? 'stop' : null,
  }
}

async function* lines(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const bytes of response.body ?? []) {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split('\n')
    rest = parts.pop() ?? ''
    yield* parts.filter((line) => line.trim())
  }
  if (rest.trim()) yield rest
}
