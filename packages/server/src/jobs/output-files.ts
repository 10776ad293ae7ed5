/** Whose an output folder is, and what in it a training run has made. */
import { constants, type Dirent } from 'node:fs'
import { lstat, mkdir, open, readdir, realpath, rename, rm, rmdir, unlink } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { ServiceError } from '@mlx-training/contract'
import { failpoint } from '../files/failpoints.ts'

/** Says which job writes to the folder. Without it, or with another's, nothing there is ever removed. */
export const MARK = '.mlx-training.json'

interface Mark {
  job_id: string
  experiment_name: string
  /** Whether it was made for the job, and so goes with it when nothing is left in it. */
  folder_created: boolean
}

/** Besides these, a fully fine-tuned model has its base's tokenizer files: a checkpoint's manifest names them. */
const RESULT = [
  'adapters.safetensors',
  'adapter_config.json',
  'chat_template.jinja',
  'model.safetensors',
  'config.json',
  'training.json',
]
const MANIFEST = 'state.json'
const OPTIMIZER = 'optimizer.safetensors'
const CHECKPOINTS = 'checkpoints'
const CHECKPOINT = /^step-\d{8,}$/
/** One whose write was interrupted: the engine's own for a moment, with all that is in it. */
const UNFINISHED = /^\.step-\d{8,}(\.\d+)?\.tmp$/
const MOST_TOLD = 100

/** Makes the folder if need be, and marks it as the job's. ServiceError('insufficient_storage') on a full disk. */
export async function claimFolder(folder: string, job: { id: string; name: string }): Promise<void> {
  try {
    const created = (await mkdir(folder, { recursive: true })) !== undefined
    const found = await readMark(folder)
    if (found?.job_id === job.id) return
    const mark: Mark = {
      job_id: job.id,
      experiment_name: job.name,
      folder_created: created || found?.folder_created === true,
    }
    const temporary = join(folder, `${MARK}.tmp`)
    await rm(temporary, { force: true })
    const file = await open(temporary, 'wx')
    try {
      await file.writeFile(`${JSON.stringify(mark)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, join(folder, MARK))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error
    throw new ServiceError('insufficient_storage', `The disk that holds ${folder} is full`, { cause: error })
  }
}

export interface Cleared {
  /** Files that the job did not make, relative to the folder; at most 100. */
  kept: string[]
  /** removed: nothing is left of it; not_ours: it does not carry the job's mark, so nothing in it was touched. */
  folder: 'removed' | 'kept' | 'not_ours' | 'missing'
}

/**
 * Removes what the job has made in its output folder, the mark last, so that a kill in between leaves something that can
 * be gone on with. Symlinks are neither followed nor removed.
 */
export async function clearFolder(folder: string, jobId: string): Promise<Cleared> {
  if ((await kindOf(folder)) === null) return { kept: [], folder: 'missing' }
  const mark = (await realpath(folder)) === folder ? await readMark(folder) : null
  if (mark?.job_id !== jobId) return { kept: [], folder: 'not_ours' }
  const checkpoints = join(folder, CHECKPOINTS)
  const [unfinished, finished] = [await foldersIn(checkpoints, UNFINISHED), await foldersIn(checkpoints, CHECKPOINT)]
  const names = new Set(RESULT)
  for (const name of finished)
    for (const file of await filesOf(join(checkpoints, name))) if (isName(file)) names.add(file)

  await removeFiles(folder, [...names, '.verifying', '.lease'])
  for (const name of unfinished) {
    await removeFiles(join(checkpoints, name), await readdir(join(checkpoints, name)))
    await removeEmpty(join(checkpoints, name))
  }
  for (const name of finished) {
    await removeFiles(join(checkpoints, name), [...names, OPTIMIZER])
    await removeFiles(join(checkpoints, name), [MANIFEST])
    await removeEmpty(join(checkpoints, name))
  }
  await removeEmpty(checkpoints)
  const kept = await filesUnder(folder)
  await removeFiles(folder, [MARK])
  const removed = mark.folder_created && (await removeEmpty(folder))
  return { kept, folder: removed ? 'removed' : 'kept' }
}

/** What generation needs of what the job has learned, in `folder` (its output folder or a checkpoint there): names of regular
 *  files that the run made. null: the output folder does not carry the job's mark. */
export async function resultFiles(outputDir: string, folder: string, jobId: string): Promise<string[] | null> {
  const mark = (await realpath(outputDir)) === outputDir ? await readMark(outputDir) : null
  if (mark?.job_id !== jobId) return null
  const checkpoints = join(outputDir, CHECKPOINTS)
  const names = new Set(RESULT)
  for (const name of await foldersIn(checkpoints, CHECKPOINT))
    for (const file of await filesOf(join(checkpoints, name))) if (isName(file)) names.add(file)
  names.delete(OPTIMIZER)
  const entries = await readdir(folder, { withFileTypes: true })
  return entries.filter((entry) => entry.isFile() && names.has(entry.name)).map((entry) => entry.name)
}

/** No symlinks, neither `folder` nor those in it. */
async function foldersIn(folder: string, name: RegExp): Promise<string[]> {
  if ((await kindOf(folder)) !== 'folder') return []
  const entries = await readdir(folder, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory() && name.test(entry.name)).map((entry) => entry.name)
}

async function readMark(folder: string): Promise<Mark | null> {
  const mark = await readJson(join(folder, MARK))
  return typeof mark?.job_id === 'string' ? (mark as unknown as Mark) : null
}

/** As a checkpoint's manifest tells; none when that can't be read. */
async function filesOf(checkpoint: string): Promise<string[]> {
  const manifest = await readJson(join(checkpoint, MANIFEST))
  return Object.keys(manifest?.files ?? {})
}

/** The object in a regular file; null for anything else. */
async function readJson(path: string): Promise<Record<string, unknown> | null> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const value = JSON.parse(await file.readFile('utf8'))
      return value !== null && typeof value === 'object' ? value : null
    } finally {
      await file.close()
    }
  } catch {
    return null
  }
}

/** No way into another folder. */
const isName = (text: string) => /^[^/\\\0]+$/.test(text) && text !== '.' && text !== '..'

/** Regular files, with what a write that was interrupted left beside them. */
async function removeFiles(folder: string, names: Iterable<string>): Promise<void> {
  if ((await kindOf(folder)) !== 'folder') return
  const wanted = [...names]
  for (const entry of await readdir(folder)) {
    const path = join(folder, entry)
    if (!wanted.some((name) => isOf(entry, name)) || (await kindOf(path)) !== 'file') continue
    failpoint('removal.file')
    await unlink(path)
  }
}

/** The engine writes `.NAME.PID.tmp`, the server `NAME.tmp`. */
const isOf = (entry: string, name: string) =>
  entry === name ||
  entry === `${name}.tmp` ||
  (entry.startsWith(`.${name}.`) && /^(\d+\.)?tmp$/.test(entry.slice(name.length + 2)))

async function removeEmpty(folder: string): Promise<boolean> {
  try {
    await rmdir(folder)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOENT' || code === 'ENOTDIR') return false
    throw error
  }
}

async function filesUnder(root: string): Promise<string[]> {
  const found: string[] = []
  const open = [root]
  for (let folder = open.pop(); folder !== undefined && found.length < MOST_TOLD; folder = open.pop())
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) open.push(path)
      else if (path !== join(root, MARK)) found.push(relative(root, path))
    }
  return found.sort().slice(0, MOST_TOLD)
}

async function kindOf(path: string): Promise<'file' | 'folder' | 'other' | null> {
  try {
    const info: Pick<Dirent, 'isFile' | 'isDirectory'> = await lstat(path)
    if (info.isFile()) return 'file'
    return info.isDirectory() ? 'folder' : 'other'
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
