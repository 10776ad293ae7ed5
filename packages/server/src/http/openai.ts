/** The routes under /v1: OpenAI's wire (openai/) over the providers that answer /generate. */
import { createHash } from 'node:crypto'
import type { ChatCompletionRequest, EngineHealth, GeneratePiece } from '@mlx-training/contract'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config.ts'
import type { Engine } from '../engine/port.ts'
import type { JobService } from '../jobs/port.ts'
import { fineTunedName } from '../models/names.ts'
import type { Models } from '../models/port.ts'
import { headOf } from '../openai/answers.ts'
import { chatInput } from '../openai/chat.ts'
import { ChatChunks, chatCompletion } from '../openai/chat-answer.ts'
import { completionInputs } from '../openai/completion.ts'
import { CompletionChunks, completion } from '../openai/completion-answer.ts'
import { openAIError } from '../openai/errors.ts'
import { inWordsOfTools, isForced } from '../openai/forced-call.ts'
import { openAIModel, openAIModels } from '../openai/models.ts'
import { generateAll, streamAll } from '../openai/together.ts'
import type { Providers } from '../providers/index.ts'
import type { GenerateInput } from '../providers/port.ts'
import { clientSignal } from './client-signal.ts'
import { data, streamAnswer } from './generate-stream.ts'
import { models as listModels } from './models.ts'
import { demandPaid } from './paid.ts'
import type { Handlers } from './routes.ts'
import type { SseTimes } from './sse.ts'
import { VERSION } from './version.ts'

interface Deps {
  config: Pick<Config, 'host'>
  providers: Providers
  engine: Pick<Engine, 'health'>
  models: Models
  jobs: JobService
  closing: AbortSignal
  sseTimes?: SseTimes | undefined
}

type Facade = Pick<Handlers, 'openaiChat' | 'openaiCompletions' | 'openaiModels' | 'openaiModel'>

export function openai(deps: Deps): Facade {
  const { config, providers, engine, jobs, closing, sseTimes } = deps
  const here = listModels(deps)

  /** Who answers, and how its answers begin. */
  const routed = (kind: 'chatcmpl' | 'cmpl', asked: string) => {
    const { provider, model } = providers.route({ model: asked })
    const local = provider.name === 'local_mlx'
    return { provider, model, local, head: headOf(kind, asked, local ? fingerprint(engine.health()) : null) }
  }

  async function list() {
    const { models } = await here({} as never)
    const created = new Map(
      (await jobs.list()).map((job) => [fineTunedName(job.name), Math.floor(Date.parse(job.createdAt) / 1000)]),
    )
    return openAIModels(models, (id) => created.get(id))
  }

  return {
    async openaiChat({ body, request, reply }) {
      demandPaid(config, request, [body])
      const { provider, model, local, head } = routed('chatcmpl', body.model)
      const input: GenerateInput = { ...chatInput(body, local), model }
      const client = clientSignal(reply, closing)
      try {
        if (!body.stream) return chatCompletion(head, body, await provider.generate(input, client.signal))
        const pieces = chatPieces(provider.stream(input, client.signal), body)
        return (await stream(reply, request, pieces, new ChatChunks(head, body), sseTimes)) as never
      } catch (error) {
        throw isForced(body.tool_choice) ? inWordsOfTools(error) : error
      } finally {
        client.release()
      }
    },

    async openaiCompletions({ body, request, reply }) {
      demandPaid(config, request, [body])
      const { provider, model, head } = routed('cmpl', body.model)
      const inputs = completionInputs(body).map((input) => ({ ...input, model }))
      const client = clientSignal(reply, closing)
      try {
        if (!body.stream) return completion(head, body, await generateAll(provider, inputs, client.signal))
        const pieces = streamAll(provider, inputs, body.n ?? 1, client.signal)
        return (await stream(reply, request, pieces, new CompletionChunks(head, body), sseTimes)) as never
      } finally {
        client.release()
      }
    },

    openaiModels: async () => ({ object: 'list', data: await list() }),
    openaiModel: async ({ params }) => openAIModel(await list(), params.model),
  }
}

async function* chatPieces<Output>(
  pieces: AsyncGenerator<GeneratePiece, Output>,
  { tool_choice }: ChatCompletionRequest,
): AsyncGenerator<GeneratePiece, Output> {
  try {
    return yield* pieces
  } catch (error) {
    throw isForced(tool_choice) ? inWordsOfTools(error) : error
  }
}

interface Chunks<Output> {
  piece(piece: GeneratePiece): object[]
  end(output: Output): object[]
}

const stream = <Output>(
  reply: FastifyReply,
  request: FastifyRequest,
  pieces: AsyncGenerator<GeneratePiece, Output>,
  chunks: Chunks<Output>,
  times?: SseTimes,
) =>
  streamAnswer(
    reply,
    request,
    pieces,
    {
      piece: (piece) => chunks.piece(piece).map(data).join(''),
      end: (output) => `${chunks.end(output).map(data).join('')}data: [DONE]\n\n`,
      // As OpenAI's SDKs expect it: a chunk with an error, and no [DONE].
      error: (told) => data(openAIError(told)),
    },
    times,
  )

/** The same seed gives the same answer as long as it is the same. */
export function fingerprint({ mlx_version, mlx_lm_version, device, backend, dtype, kernels }: EngineHealth): string {
  // The speed in it is measured anew at each start.
  const named = backend?.replace(/(, )?\d+ GFLOP\/s/, '')
  const facts = [VERSION, mlx_version, mlx_lm_version, device, named, dtype, kernels]
  return `fp_${createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 10)}`
}
