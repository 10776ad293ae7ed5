import type { ComparedAnswer } from '@mlx-training/sdk'
import { EXIT, Stop } from '../exit.ts'
import pc from '../screen/colours.ts'
import { plural } from '../screen/format.ts'
import { asJson, harmless, marked, say } from '../screen/print.ts'
import { waiting } from '../screen/waiting.ts'
import type { Session } from '../session.ts'

interface Options {
  models: string[]
  system?: string
  reference?: string
  maxTokens?: number
}

/** One prompt to several models, one below the other. Throws Stop when none could answer. */
export async function compare({ client, json }: Session, prompt: string, options: Options): Promise<void> {
  const { models, system, reference, maxTokens } = options
  const asking = client.compare({ models, prompt, system, reference, max_tokens: maxTokens })
  const compared = await waiting(`asking ${plural(models.length, 'model')}`, asking)
  const answers = compared.items[0]?.answers ?? []
  if (json) asJson(compared)
  else say(answers.map(describe).join('\n\n'))
  if (answers.every(({ error }) => error !== null)) throw new Stop('No model could answer', EXIT.bad)
}

function describe({
  model,
  text,
  error,
  completion_tokens,
  total_ms,
  tokens_per_second,
  cost,
  scores,
}: ComparedAnswer) {
  const facts = [
    completion_tokens === null ? '' : `${completion_tokens} tokens`,
    total_ms === null ? '' : `${(total_ms / 1000).toFixed(1)} s`,
    tokens_per_second === null ? '' : `${tokens_per_second.toFixed(1)} a second`,
    cost === null ? '' : `costs ${cost}`,
    scores === null ? '' : `ROUGE-L ${scores.rouge_l.toFixed(2)}, chrF ${scores.chrf.toFixed(2)}`,
  ].filter((fact) => fact !== '')
  return `${pc.bold(model)}  ${pc.dim(facts.join(', '))}\n${error ? pc.red(marked('✗', error.detail)) : harmless(text ?? '')}`
}
