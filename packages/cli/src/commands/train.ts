import { NotFoundError, type StartInput, UnprocessableError } from '@mlx-training/sdk'
import { EXIT, Stop } from '../exit.ts'
import { placed } from '../place.ts'
import { requestOf, type TrainFlags } from '../recipe.ts'
import pc from '../screen/colours.ts'
import { asJson, marked, note, say } from '../screen/print.ts'
import { waiting } from '../screen/waiting.ts'
import type { Session } from '../session.ts'
import { watch } from './follow.ts'
import { explainReport } from './validate.ts'

interface Options extends TrainFlags {
  upload?: boolean
  check: boolean
  detach?: boolean
  dryRun?: boolean
}

/** Checks the data against the model, starts, and follows. */
export async function train(session: Session, recipe: string | undefined, options: Options): Promise<void> {
  const { client, json } = session
  const request = requestOf(recipe, options)
  if (!options.dryRun) await checkName(session, request)
  await placeData(session, request, options.upload ?? false)
  if (options.dryRun) return await estimate(session, request)
  if (options.check) await check(session, request)
  const started = await client.train.start(request)
  const name = started.experiment_name
  if (json && options.detach) return asJson(started)
  if (!json) {
    const place = started.queue_position > 0 ? `, place ${started.queue_position + 1} in the queue` : ''
    say(`${pc.bold(name)} started${place}: ${started.estimated_time}, into ${started.output_dir}`)
  }
  if (options.detach) return note(pc.dim(`Follow it: mlx-training watch ${name}`))
  await watch(session, name)
}

/** Before anything that takes time: whether the name is one, and free. The start itself decides. */
async function checkName({ client }: Session, { experiment_name: name, overwrite }: StartInput): Promise<void> {
  try {
    const { status } = await client.train.status(name)
    if (!['completed', 'failed', 'stopped'].includes(status))
      throw new Stop(
        `${name} is ${status}: stop it first (mlx-training stop ${name}), or choose another --name`,
        EXIT.conflict,
      )
    if (!overwrite)
      throw new Stop(
        `There is an experiment ${name}, ${status}: choose another --name, or --overwrite it`,
        EXIT.conflict,
      )
  } catch (error) {
    if (error instanceof UnprocessableError) throw new Stop(`--name ${nameProblem(error)}`)
    if (!(error instanceof NotFoundError)) throw error
  }
}

const nameProblem = ({ errors, message }: UnprocessableError) => errors[0]?.message ?? message

async function placeData(session: Session, { dataset }: StartInput, upload: boolean): Promise<void> {
  for (const field of ['dataset_path', 'validation_path'] as const) {
    const path = dataset[field]
    if (path !== undefined) dataset[field] = await placed(session, path, upload)
  }
}

async function check({ client, json }: Session, { model_name, dataset }: StartInput): Promise<void> {
  const {
    dataset_path,
    validation_path,
    dataset_format,
    columns,
    tags,
    batch_size,
    max_seq_length,
    loss_on,
    truncation,
  } = dataset
  const checking = client.datasets.validate({
    file_path: dataset_path,
    model_name,
    ...defined({ validation_path, dataset_format, columns, tags, batch_size, max_seq_length, loss_on, truncation }),
  })
  const report = await waiting(`checking ${dataset_path}`, checking)
  if (!json) say(`${explainReport(report)}\n`)
  if (!report.valid) throw new Stop(`${dataset_path} has errors, so nothing was started`, EXIT.bad)
  if (report.supervision?.refusal) throw new Stop(`${report.supervision.refusal}. Nothing was started`, EXIT.bad)
}

async function estimate({ client, json }: Session, request: StartInput): Promise<void> {
  const measured = await waiting('measuring some steps', client.train.estimate(request))
  if (json) return asJson(measured)
  say(
    `${measured.estimated_time} for ${measured.total_steps} steps; ${
      measured.fits ? 'it fits' : pc.red('it does not fit')
    } into memory (${Math.round(measured.peak_memory_mb ?? 0)} of ${Math.round(measured.available_memory_mb)} MB)`,
  )
  for (const line of [...measured.advice, ...measured.warnings]) say(marked('•', line))
}

const defined = <T extends object>(fields: T): Partial<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>
