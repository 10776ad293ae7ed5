/** What an experiment has learned, as a tar made while it is sent: nothing of it is put on the disk or held in memory. */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ServiceError } from '@mlx-training/contract'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Pack, pack } from 'tar-stream'
import { resultFiles } from '../jobs/output-files.ts'
import type { Job } from '../jobs/port.ts'
import { fineTunedFolder } from '../models/fine-tuned.ts'
import { disposition } from './datasets.ts'

interface Entry {
  name: string
  handle: FileHandle
  bytes: number
  modified: Date
}

/** Of the experiment's end, or so far, or of the checkpoint of `step`, in a folder of its own. ServiceErrors: those of
 *  fineTunedFolder; conflict: the folder is no longer the experiment's. */
export async function sendModel(
  job: Job,
  step: number | null,
  { method }: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const folder = await fineTunedFolder(job, step)
  const names = await resultFiles(job.plan.outputDir, folder, job.id)
  if (!names)
    throw new ServiceError(
      'conflict',
      `The files of "${job.name}" can't be sent: ${job.plan.outputDir} no longer carries this experiment's mark`,
    )
  const title = step === null ? job.name : `${job.name}-step-${step}`
  const entries = await openAll(folder, names)
  reply.header('content-length', sizeOf(entries))
  reply.header('content-disposition', disposition(`${title}.tar`))
  if (method === 'HEAD') {
    await closeAll(entries)
    return reply.send(Readable.from([]))
  }
  const archive = pack()
  void fill(archive, title, entries)
  return reply.send(archive)
}

/** All before the first byte: a training that runs on may remove a checkpoint, but not what is open of it. */
async function openAll(folder: string, names: string[]): Promise<Entry[]> {
  const entries: Entry[] = []
  try {
    for (const name of names) {
      const handle = await open(join(folder, name), constants.O_RDONLY | constants.O_NOFOLLOW)
      const entry: Entry = { name, handle, bytes: 0, modified: new Date(0) }
      entries.push(entry)
      const { size, mtime } = await handle.stat()
      Object.assign(entry, { bytes: size, modified: mtime })
    }
    return entries
  } catch (error) {
    await closeAll(entries)
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new ServiceError('not_found', `${folder} was removed by the training just now: ask for a newer checkpoint`, {
      cause: error,
    })
  }
}

/** A file that has changed its size since, or can't be read, cuts the answer short of its content-length. */
async function fill(archive: Pack, folder: string, entries: Entry[]): Promise<void> {
  try {
    for (const { name, handle, bytes, modified } of entries) {
      const entry = archive.entry({ name: `${folder}/${name}`, size: bytes, mtime: modified })
      await pipeline(handle.createReadStream({ autoClose: false }), entry)
    }
    archive.finalize()
  } catch (error) {
    archive.destroy(error as Error)
  } finally {
    await closeAll(entries)
  }
}

const closeAll = (entries: Entry[]) => Promise.all(entries.map(({ handle }) => handle.close()))

const BLOCK = 512

/** A header and whole blocks for each file, and two empty blocks. */
const sizeOf = (entries: Entry[]) =>
  entries.reduce((sum, { bytes }) => sum + BLOCK + Math.ceil(bytes / BLOCK) * BLOCK, 2 * BLOCK)
