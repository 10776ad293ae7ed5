/** evaluate: models over held-out rows, base against tuned. */
import type { ColumnMap, DatasetFormat, Evaluation, EvaluationSummary, TagMap } from '@mlx-training/sdk'
import { createLogUpdate } from 'log-update'
import { EXIT, Stop } from '../exit.ts'
import { placed } from '../place.ts'
import { bar } from '../screen/chart.ts'
import pc from '../screen/colours.ts'
import { describeEvaluation } from '../screen/evaluation.ts'
import { count, plural, time } from '../screen/format.ts'
import { asJson, note, say, table, width } from '../screen/print.ts'
import { evaluationState } from '../screen/state.ts'
import { waiting } from '../screen/waiting.ts'
import type { Session } from '../session.ts'

interface Options {
  models?: string[]
  samples?: number
  seed?: number
  heldOut?: number
  generate?: boolean
  generateSamples?: number
  maxTokens?: number
  maxSeqLength?: number
  batchSize?: number
  columns?: ColumnMap
  tags?: TagMap
  format?: DatasetFormat
  upload?: boolean
  detach?: boolean
  cancel?: boolean
  rows?: boolean
}

/** Nothing given: lists. An id: shows that one, when it has ended. A file or data set: evaluates, and shows. */
export async function evaluate(session: Session, data: string | undefined, options: Options): Promise<void> {
  const { client, json } = session
  if (data === undefined && options.models)
    throw new Stop(
      'Name the data before the models: mlx-training evaluate held-out.jsonl --models BASE fine-tuned/NAME',
    )
  if (data === undefined) return await list(session)
  if (/^ev_[0-9a-z]{20}$/.test(data)) {
    if (!options.cancel) return await follow(session, data, options.rows ?? false)
    const cancelled = await client.evaluations.cancel(data)
    return json ? asJson(cancelled) : say(`${data}: ${evaluationState(cancelled.state)}`)
  }
  if (options.cancel) throw new Stop('--cancel takes the id of an evaluation: mlx-training evaluate ev_… --cancel')
  const { id, state, queue_position } = await start(session, data, options)
  if (options.detach) {
    if (json) return asJson({ id, state, queue_position })
    say(id)
    return note(pc.dim(comeBack(id)))
  }
  if (!json) note(`${id} started${queue_position ? `, place ${queue_position + 1} in the queue` : ''}`)
  await follow(session, id, options.rows ?? false)
}

async function start(session: Session, data: string, { models, ...options }: Options) {
  if (!models)
    throw new Stop('Name the models: --models SmolLM2-135M-Instruct fine-tuned/NAME; the first is the one to beat')
  const path = await placed(session, data, options.upload)
  const started = session.client.evaluations.start({
    models,
    dataset: {
      dataset_path: path,
      dataset_format: options.format,
      columns: options.columns,
      tags: options.tags,
      held_out: options.heldOut,
      ...(options.maxSeqLength !== undefined && { max_seq_length: options.maxSeqLength }),
      ...(options.batchSize !== undefined && { batch_size: options.batchSize }),
    },
    max_samples: options.samples,
    ...(options.seed !== undefined && { seed: options.seed }),
    ...(options.generate && { generate: true }),
    ...(options.generateSamples !== undefined && { generate: true, generate_samples: options.generateSamples }),
    ...(options.maxTokens !== undefined && { max_tokens: options.maxTokens }),
  })
  return await waiting('reading the rows', started)
}

const comeBack = (id: string) =>
  `Come back with: mlx-training evaluate ${id}; end it with: mlx-training evaluate ${id} --cancel`

/** Throws Stop when it, or one of its models, failed. Ctrl-C leaves it running. */
async function follow({ client, json }: Session, id: string, rows: boolean): Promise<void> {
  const abort = new AbortController()
  const interrupt = () => abort.abort(new Stop(`${id} goes on. ${comeBack(id)}`, EXIT.interrupted))
  process.on('SIGINT', interrupt)
  const show = progress(json)
  try {
    const ended = await client.evaluations.wait(id, { signal: abort.signal, onProgress: show.take })
    show.done()
    if (json) asJson(ended)
    else say(describeEvaluation(ended, rows))
    conclude(ended)
  } finally {
    show.done()
    process.off('SIGINT', interrupt)
  }
}

function conclude({ id, state, reason, results }: Evaluation): void {
  if (state !== 'completed') throw new Stop(`${id} is ${state}${reason ? `: ${reason}` : ''}`, EXIT.bad)
  const failed = results.filter((result) => result.state === 'failed')
  if (failed.length > 0) throw new Stop(`${plural(failed.length, 'model')} of ${results.length} failed`, EXIT.bad)
}

/** On stderr: a line that changes where there is a terminal, otherwise one for each stage of a model; with --json errors alone. */
function progress(json: boolean): { take: (evaluation: Evaluation) => void; done: () => void } {
  const line = process.stderr.isTTY ? createLogUpdate(process.stderr) : null
  let last = ''
  let open = line !== null
  return {
    take: (evaluation) => {
      if (line) return line(drawn(evaluation, Math.min(width(), 120)))
      const stage = stageOf(evaluation)
      if (!json && stage !== last && evaluation.state === 'running') note(stage)
      last = stage
    },
    done: () => {
      if (open) line?.clear()
      if (open) line?.done()
      open = false
    },
  }
}

function drawn(evaluation: Evaluation, columns: number): string {
  const { progress, state, queue_position } = evaluation
  if (!progress) return pc.dim(state === 'queued' ? `waits, place ${(queue_position ?? 0) + 1}` : state)
  const share = progress.total > 0 ? progress.done / progress.total : 0
  const text = `${stageOf(evaluation)}${progress.total > 0 ? `  ${count(progress.done)} of ${count(progress.total)}` : ''}`
  return `${pc.green(bar(share, Math.max(10, Math.min(30, columns - text.length - 2))))} ${text}`.slice(0, 400)
}

const stageOf = ({ progress, models }: Evaluation): string =>
  progress
    ? `${progress.model} (${Math.min(progress.models_done + 1, models.length)} of ${models.length}): ${progress.stage.replaceAll('_', ' ')}`
    : ''

async function list({ client, json }: Session): Promise<void> {
  const all: EvaluationSummary[] = []
  let after: string | null = null
  do {
    const page = await client.evaluations.list({ limit: 200, ...(after !== null && { after }) })
    all.push(...page.evaluations)
    after = page.next
  } while (after !== null)
  if (json) return asJson(all)
  if (all.length === 0)
    return say('No evaluations yet. Begin with: mlx-training evaluate held-out.jsonl --models BASE fine-tuned/NAME')
  const rows = all.map(({ id, state, models, dataset_path, created_at }) => [
    id,
    evaluationState(state),
    models.join(', '),
    dataset_path.split('/').at(-1) ?? '',
    time(created_at),
  ])
  say(table(['id', 'state', 'models', 'data', 'since'], rows))
}
