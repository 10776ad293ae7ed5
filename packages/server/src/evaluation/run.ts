/** runEvaluation: one model after the other over the rows, then their answers to some of them, all written into the record. */
import { createHash } from 'node:crypto'
import { type EvaluateRequest, type ModelEvaluation, ServiceError } from '@mlx-training/contract'
import type { Snapshot } from '../datasets/port.ts'
import type { Engine } from '../engine/port.ts'
import { type WeightsDeps, weightsOf } from '../providers/weights.ts'
import type { EvaluationRecord } from '../store/port.ts'
import type { Asker, Question } from './answer.ts'
import { type Answers, differenceOf, generatedOf, lossesOf, type Rows, rowsOf, type Scored } from './results.ts'
import { type HeldRow, readRows } from './rows.ts'
import { chooseSamples, sampleOf } from './samples.ts'
import { scoresOf } from './scores.ts'

export interface RunDeps extends WeightsDeps {
  engine: Pick<Engine, 'evaluate'>
  providers: { route(request: { model: string }): { model: string } }
  asker: Asker
  tokenCache: string
  /** Writes the record down. */
  save(): Promise<void>
}

const GENERATION_SEED = 0

/** A model that fails is told in its place. Throws the signal's reason once that aborts, and what is no ServiceError. */
export async function runEvaluation(
  record: EvaluationRecord,
  request: EvaluateRequest,
  snapshot: Pick<Snapshot, 'path' | 'sha256' | 'format'>,
  deps: RunDeps,
  signal: AbortSignal,
): Promise<void> {
  const rows: (Rows | null)[] = []
  for (const [i, result] of record.results.entries()) {
    rows.push(await losses(result, record, i, request, snapshot, deps, signal))
    await deps.save()
  }
  const first = rows.findIndex((each) => each !== null)
  for (const [i, each] of rows.entries())
    if (each && i > first) (record.results[i] as ModelEvaluation).difference = differenceOf(rows[first] as Rows, each)
  const answers = request.generate && first >= 0 ? await answerAll(record, request, rows, snapshot, deps, signal) : []
  const chosen = chooseSamples(rows, answers)
  const held = await readRows(snapshot.path, new Set(chosen.map(({ sample }) => sample)))
  record.samples = chosen.flatMap(({ sample, why }) => {
    const row = held.get(sample)
    return row ? [sampleOf(row, why, record.models, rows, answers)] : []
  })
  for (const result of record.results) if (result.state === 'running') result.state = 'completed'
}

async function losses(
  result: ModelEvaluation,
  record: EvaluationRecord,
  i: number,
  request: EvaluateRequest,
  snapshot: Pick<Snapshot, 'path' | 'sha256' | 'format'>,
  deps: RunDeps,
  signal: AbortSignal,
): Promise<Rows | null> {
  const started = performance.now()
  const at = (stage: string, done = 0, total = 0) => {
    record.progress = { model: result.model, stage, done, total, models_done: i }
  }
  result.state = 'running'
  at('starting')
  const { held_out, batch_size, max_seq_length, loss_on, truncation, packing } = request.dataset
  try {
    const { model } = deps.providers.route({ model: result.model })
    const found = await deps.engine.evaluate(
      {
        ...(await weightsOf(model, deps, signal)),
        dataset: {
          path: snapshot.path,
          sha256: snapshot.sha256,
          format: snapshot.format,
          validation_path: null,
          validation_split: held_out ?? null,
          batch_size,
          max_seq_length,
          shuffle: false,
          loss_on,
          truncation,
          packing: packing ?? null,
          cache_path: deps.tokenCache,
        },
        max_samples: request.max_samples ?? null,
        seed: request.seed,
      },
      { signal, onStage: ({ stage, done, total }) => at(stage, done, total) },
    )
    const rows = rowsOf(found)
    Object.assign(result, lossesOf(rows, found))
    if (!request.generate) result.state = 'completed'
    return rows
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof ServiceError)) throw error
    result.state = 'failed'
    result.error = error.message
    return null
  } finally {
    result.seconds = Math.round(performance.now() - started) / 1000
  }
}

/** By model; those that failed answer nothing. */
async function answerAll(
  record: EvaluationRecord,
  request: EvaluateRequest,
  rows: readonly (Rows | null)[],
  snapshot: Pick<Snapshot, 'path'>,
  deps: RunDeps,
  signal: AbortSignal,
): Promise<(Answers | null)[]> {
  const numbers = new Set(rows.flatMap((each) => [...(each?.keys() ?? [])]))
  const held = await answerable(snapshot.path, numbers, request)
  const models = rows.flatMap((each, i) => (each ? [i] : []))
  const answers = rows.map((each) => (each ? new Map<number, Scored>() : null))
  const failures = new Map<number, string[]>()
  const total = held.length * models.length
  let done = 0
  const tell = (model: string) => {
    record.progress = { model, stage: 'generating', done, total, models_done: rows.length }
  }
  tell(record.models[models[0] as number] as string)
  await Promise.all(
    held.flatMap((row) =>
      models.map(async (i) => {
        const model = record.models[i] as string
        try {
          const { output } = await deps.asker.ask(model, questionOf(row, request), signal)
          answers[i]?.set(row.sample, { text: output.text, scores: scoresOf(output.text, row.reference) })
        } catch (error) {
          signal.throwIfAborted()
          if (!(error instanceof ServiceError)) throw error
          failures.set(i, [...(failures.get(i) ?? []), `Row ${row.sample} was not answered: ${error.message}`])
        }
        done++
        tell(model)
      }),
    ),
  )
  const first = answers[models[0] as number] ?? null
  for (const i of models) {
    const result = record.results[i] as ModelEvaluation
    const [why, ...more] = failures.get(i) ?? []
    if (why) result.warnings = [...result.warnings, more.length > 0 ? `${why} (and ${more.length} more)` : why]
    result.generated = generatedOf(answers[i] as Answers, more.length + (why ? 1 : 0), i === models[0] ? null : first)
    if (held.length === 0) result.warnings = [...result.warnings, 'No row has a question to answer']
  }
  return answers
}

/** Some of these rows, chosen by the seed, in their order. */
async function answerable(
  path: string,
  numbers: ReadonlySet<number>,
  { seed, generate_samples }: EvaluateRequest,
): Promise<HeldRow[]> {
  const place = (sample: number) => createHash('sha256').update(`${seed} ${sample}`).digest('hex')
  const order = [...numbers].map((sample) => [place(sample), sample] as const).sort(([a], [b]) => (a < b ? -1 : 1))
  // Rows that ask nothing are few, unless all are plain text.
  const looked = order.slice(0, 2 * generate_samples).map(([, sample]) => sample)
  const rows = await readRows(path, new Set(looked))
  return looked
    .flatMap((sample) => rows.get(sample) ?? [])
    .filter(({ question }) => question !== null)
    .slice(0, generate_samples)
    .sort((a, b) => a.sample - b.sample)
}

function questionOf({ question }: HeldRow, { max_tokens }: EvaluateRequest): Question {
  return {
    messages: question && 'messages' in question ? question.messages : null,
    prompt: question && 'prompt' in question ? question.prompt : null,
    maxTokens: max_tokens,
    temperature: 0,
    topP: 1,
    stop: [],
    seed: GENERATION_SEED,
  }
}
