import type { CompareResponse } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import { createAsker } from '../evaluation/answer.ts'
import { compare as compareModels, itemsOf } from '../evaluation/compare.ts'
import type { Providers } from '../providers/index.ts'
import { clientSignal } from './client-signal.ts'
import { ownWording, streamAnswer } from './generate-stream.ts'
import { demandPaid } from './paid.ts'
import type { Handler } from './routes.ts'
import type { SseTimes } from './sse.ts'

export const compare = ({
  config,
  providers,
  closing,
  sseTimes,
}: {
  config: Pick<Config, 'host'>
  providers: Providers
  closing: AbortSignal
  sseTimes?: SseTimes | undefined
}): Handler<'compare'> => {
  const asker = createAsker(providers)
  return async ({ body, reply, request }) => {
    demandPaid(
      config,
      request,
      body.models.map((model) => ({ model })),
    )
    const client = clientSignal(reply, closing)
    try {
      const answers = compareModels(body, { asker, providers }, client.signal)
      if (body.stream) {
        itemsOf(body) // what is wrong with the request has its own status
        const wording = ownWording(request, ({ summary }: CompareResponse) => ({ summary }))
        // It has written the answer itself.
        return (await streamAnswer(reply, request, answers, wording, sseTimes, true)) as never
      }
      return await last(answers)
    } finally {
      client.release()
    }
  }
}

async function last(answers: AsyncGenerator<unknown, CompareResponse>): Promise<CompareResponse> {
  for (;;) {
    const next = await answers.next()
    if (next.done) return next.value
  }
}
