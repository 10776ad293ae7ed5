/** list, status, download, stop, pause, resume, delete, priority: one call each. */
import type { JobSummary, StatusResponse } from '@mlx-training/sdk'
import { each } from '../each.ts'
import { save } from '../save.ts'
import { bar } from '../screen/chart.ts'
import pc from '../screen/colours.ts'
import { count, duration, loss, percent, time } from '../screen/format.ts'
import { asJson, pairs, say, table, width } from '../screen/print.ts'
import { state } from '../screen/state.ts'
import type { Session } from '../session.ts'

export async function list(
  { client, json }: Session,
  { state: only, tag }: { state?: string; tag?: string },
): Promise<void> {
  const { training_jobs: all } = await client.train.list()
  const jobs = all.filter(
    ({ status, tags }) => (only === undefined || status === only) && (tag === undefined || tags.includes(tag)),
  )
  if (json) return asJson(jobs)
  if (jobs.length === 0)
    return say(
      all.length > 0
        ? `No experiment ${[only && `is ${only}`, tag && `has the tag ${tag}`].filter(Boolean).join(' and ')}`
        : 'No experiments yet. Begin with: mlx-training train --help',
    )
  say(table(['experiment', 'state', 'done', 'loss', 'model', 'since'], jobs.map(row), [2, 3], width(), [0]))
}

const row = (job: JobSummary): string[] => [
  job.experiment_name,
  state(job.status) + (job.queue_position === null ? '' : pc.dim(` (${job.queue_position + 1}.)`)),
  `${Math.floor(job.percentage)}%`,
  loss(job.loss),
  job.model.split('/').slice(-2).join('/'),
  time(job.started_at),
]

export async function status({ client, json }: Session, name: string): Promise<void> {
  const status = await client.train.status(name)
  if (json) return asJson(status)
  say(describe(status))
}

export async function download(
  { client }: Session,
  name: string,
  { step, output }: { step?: number; output?: string },
): Promise<void> {
  const file = output ?? (step === undefined ? `${name}.tar` : `${name}-step-${step}.tar`)
  await save(await client.train.model(name, step === undefined ? {} : { step }), file)
  if (file !== '-') say(`${file} is written`)
}

export function describe(status: StatusResponse): string {
  const { progress, metrics, lora_details: lora, dataset_details: data } = status
  return pairs([
    ['experiment', pc.bold(status.experiment_name)],
    ['state', state(status.status) + (status.attempt > 1 ? pc.dim(` (attempt ${status.attempt})`) : '')],
    status.reason ? ['reason', status.reason] : null,
    [
      'progress',
      `${bar(progress.percentage / 100, 20)} ${Math.floor(progress.percentage)}%  step ${count(progress.current_step)} of ${
        progress.total_steps > 0 ? count(progress.total_steps) : '?'
      }, epoch ${progress.current_epoch} of ${progress.total_epochs}`,
    ],
    status.queue_position === null
      ? null
      : ['queue', `place ${status.queue_position + 1}, turn about ${time(status.estimated_start)}`],
    status.estimated_seconds_remaining === null ? null : ['time left', duration(status.estimated_seconds_remaining)],
    ['loss', lossLine(metrics)],
    [
      'speed',
      `${count(Math.round(metrics.tokens_per_second))} tokens/s, ${count(Math.round(metrics.gpu_memory_used_mb))} MB`,
    ],
    ['model', status.model],
    status.tags.length > 0 ? ['tags', status.tags.join(', ')] : null,
    [
      'method',
      lora.enabled
        ? `LoRA rank ${lora.rank}, alpha ${lora.alpha}, ${percent(lora.trainable_percentage / 100, 2)} of the parameters`
        : 'full fine-tuning',
    ],
    ['data', `${count(data.total_samples)} ${data.format} rows`],
    status.checkpoints.length > 0 ? ['checkpoints', status.checkpoints.map(({ model }) => model).join(', ')] : null,
    ['folder', status.output_dir],
    ...status.warnings.map((warning) => ['warning', pc.yellow(warning)] as const),
  ])
}

function lossLine({ loss: last, validation_loss, best_validation_loss }: StatusResponse['metrics']): string {
  const held = validation_loss === undefined || validation_loss === null ? '' : `, held out ${loss(validation_loss)}`
  return loss(last) + held + (best_validation_loss === null ? '' : ` (best ${loss(best_validation_loss)})`)
}

export async function command(
  { client, json }: Session,
  verb: 'stop' | 'pause' | 'resume' | 'delete',
  names: string[],
): Promise<void> {
  await each(names, async (name) => {
    const answer = await client.train[verb](name)
    if (json) asJson(answer)
    else say(`${name}: ${answer.message}`)
  })
}

export async function prioritize({ client, json }: Session, name: string, priority: number): Promise<void> {
  const answer = await client.train.prioritize(name, { priority })
  if (json) asJson(answer)
  else say(`${name}: ${answer.message}`)
}
