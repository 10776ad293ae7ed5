/** createSupervision: what training would make of a data set's rows, told without training. */
import { access } from 'node:fs/promises'
import {
  isDatasetId,
  type PreviewRequest,
  type PreviewResponse,
  type PreviewRow,
  ServiceError,
  type SupervisionReport,
  type ValidateRequest,
  type ValidateResponse,
} from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { Datasets, Picked, ReadOptions, Snapshot } from '../datasets/port.ts'
import type { Engine } from '../engine/port.ts'
import type { ClientPaths } from '../files/port.ts'
import type { Models } from '../models/port.ts'
import { tokenCache } from './command.ts'
import { atField, workingEngine } from './resolve.ts'

export interface SupervisionDeps {
  config: Pick<Config, 'home' | 'roots'>
  engine: Pick<Engine, 'ready' | 'inspect' | 'preview'>
  datasets: Pick<Datasets, 'validate' | 'snapshot' | 'pick'>
  models: Pick<Models, 'resolve' | 'ensureText'>
  paths: Pick<ClientPaths, 'openFile'>
}

export interface SupervisionService {
  /** The report of a data set, with a model named also of what training would make of its rows. ServiceErrors: those of
   *  paths and models, rate_limited, unavailable without an engine; the signal's reason once that aborts. */
  validate(request: ValidateRequest, signal: AbortSignal): Promise<ValidateResponse>
  /** The masks of some rows, and what is wrong with those that have errors. ServiceErrors: these, and invalid_dataset for a
   *  file that can't be read as rows of one format. */
  preview(request: PreviewRequest, signal: AbortSignal): Promise<PreviewResponse>
}

type Settings = Pick<PreviewRequest, 'max_seq_length' | 'loss_on' | 'truncation'> & { batch_size?: number }

/** Files whose snapshot is remembered, so that looking at one row after the other reads a file once. */
const REMEMBERED = 16
const SEED = 42

export function createSupervision({ config, engine, datasets, models, paths }: SupervisionDeps): SupervisionService {
  const remembered = new Map<string, Snapshot>()

  /** What changes when a file does. */
  async function versionOf(source: string, options: ReadOptions): Promise<string> {
    if (isDatasetId(source)) return JSON.stringify([source, options])
    const { handle, realPath } = await paths.openFile(source, config.roots.datasets)
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = await handle.stat({ bigint: true })
      return JSON.stringify([source, realPath, options, ...[dev, ino, size, mtimeNs, ctimeNs].map(String)])
    } finally {
      await handle.close()
    }
  }

  async function snapshotOf(source: string, options: ReadOptions, signal: AbortSignal): Promise<Snapshot> {
    const version = await versionOf(source, options)
    const known = remembered.get(version)
    remembered.delete(version)
    const snapshot =
      known && (await isThere(known.path))
        ? known
        : await datasets.snapshot(source, options.format, { ...options, signal })
    remembered.set(version, snapshot)
    for (const oldest of [...remembered.keys()].slice(0, -REMEMBERED)) remembered.delete(oldest)
    return snapshot
  }

  /** What the inspect process is asked of a snapshot with a model. */
  async function asked(
    snapshot: Pick<Snapshot, 'path' | 'sha256' | 'format'>,
    model: string,
    settings: Settings,
    signal: AbortSignal,
  ) {
    const modelPath = await atField('model_name', async () =>
      models.ensureText(await models.resolve(model), { signal }),
    )
    return {
      model_path: modelPath,
      dataset: {
        path: snapshot.path,
        sha256: snapshot.sha256,
        format: snapshot.format,
        validation_path: null,
        validation_split: null,
        batch_size: settings.batch_size ?? 1,
        max_seq_length: settings.max_seq_length,
        shuffle: true,
        loss_on: settings.loss_on,
        truncation: settings.truncation,
        packing: null,
        cache_path: tokenCache(config.home),
      },
    }
  }

  /** Of a file without errors its snapshot, which is made once; of another one only these rows are taken. */
  async function rowsOf(
    source: string,
    options: ReadOptions,
    samples: number[],
    signal: AbortSignal,
  ): Promise<Pick<Snapshot, 'path' | 'sha256' | 'format'> & Partial<Picked>> {
    try {
      return await snapshotOf(source, options, signal)
    } catch (error) {
      if (!(error instanceof ServiceError) || error.code !== 'invalid_dataset') throw error
      return await datasets.pick(source, samples, { ...options, signal })
    }
  }

  return {
    async validate(request, signal) {
      const { file_path, model_name, dataset_format, validation_path, columns, tags, ...settings } = request
      const options = { format: dataset_format, columns, tags }
      const report = () => datasets.validate(file_path, { ...options, validation: validation_path, signal })
      if (model_name === undefined) return { ...(await report()), supervision: null }
      await workingEngine(engine, 'A supervision report')
      const snapshot = await snapshotOf(file_path, options, signal).catch((error: unknown) => {
        if (error instanceof ServiceError && error.code === 'invalid_dataset') return null
        throw error
      })
      if (snapshot === null) {
        await atField('model_name', () => models.resolve(model_name))
        const found = await report()
        return { ...found, supervision: null, warnings: [...found.warnings, NOT_TOLD] }
      }
      const command = await asked(snapshot, model_name, settings, signal)
      const found = await named(engine.inspect({ ...command, seed: SEED }, { signal }))
      const warnings = warningsOf(found)
      const told = validation_path === undefined ? snapshot.report : await report()
      return {
        ...told,
        warnings: [...told.warnings, ...warnings],
        supervision: { model_name, ...found, warnings },
      }
    },

    async preview({ file_path, dataset_format, columns, tags, model_name, samples, ...settings }, signal) {
      await workingEngine(engine, 'A preview')
      const options = { format: dataset_format, columns, tags }
      const taken = await atField('file_path', () => rowsOf(file_path, options, samples, signal))
      const command = await asked(taken, model_name, settings, signal)
      const rows = await named(engine.preview({ ...command, samples }, { signal }))
      return { model_name, format: taken.format, rows: rows.map((row) => withError(row, taken.problems)) }
    },
  }
}

/** The engine knows good rows alone. */
const withError = (row: PreviewRow, problems: Picked['problems'] = new Map()): PreviewRow => ({
  ...row,
  problem: problems.get(row.sample) ?? row.problem,
})

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

const NOT_TOLD = 'With rows that have errors nothing is trained, so what training would make of them is not told'

/** Which field of the request the engine's refusal is about. */
async function named<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!(error instanceof ServiceError) || error.status !== 400) throw error
    return await atField(error.code === 'invalid_dataset' ? 'file_path' : 'model_name', () => Promise.reject(error))
  }
}

function warningsOf({ findings, refusal }: SupervisionReport): string[] {
  const own = findings.map(({ message }) => message)
  return refusal === null ? own : [...own, `Training would be refused: ${refusal}`]
}
