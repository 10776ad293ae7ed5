/** receive: a stream becomes a file, hashed on the way. */
import { createHash } from 'node:crypto'
import { open, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceError } from '@mlx-training/contract'
import { failpoint } from '../../files/failpoints.ts'
import { explainFull } from '../snapshot-writer.ts'
import { FILES } from './shelf.ts'

/** Left free for the database, logs and checkpoints of what runs. */
const RESERVE_BYTES = 256 << 20
/** Bytes between looks at how full the disk is. */
const LOOK_BYTES = 64 << 20

/** Writes `<folder>/data` and syncs it. ServiceErrors: payload_too_large, insufficient_storage. */
export async function receive(
  bytes: AsyncIterable<Buffer>,
  folder: string,
  limit: number,
  expected = 0,
): Promise<{ sha256: string; bytes: number }> {
  if (expected > limit) throw tooLarge(limit)
  await checkRoom(folder, expected)
  const hash = createHash('sha256')
  const handle = await open(join(folder, FILES.data), 'wx', 0o600)
  let size = 0
  let looked = 0
  try {
    for await (const chunk of bytes) {
      size += chunk.length
      if (size > limit) throw tooLarge(limit)
      if (size - looked > LOOK_BYTES) {
        await checkRoom(folder, 0)
        looked = size
      }
      hash.update(chunk)
      await explainFull(folder, async () => {
        failpoint('dataset.received')
        await handle.writeFile(chunk)
      })
    }
    await explainFull(folder, () => handle.sync())
  } finally {
    await handle.close()
  }
  return { sha256: hash.digest('hex'), bytes: size }
}

/** ServiceError('insufficient_storage') when `needed` bytes more would leave too little. */
export async function checkRoom(folder: string, needed: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  if (free >= needed + RESERVE_BYTES) return
  throw new ServiceError(
    'insufficient_storage',
    `The disk of ${folder} has ${megabytes(free)} free, but ${megabytes(needed + RESERVE_BYTES)} are needed ` +
      `(${megabytes(RESERVE_BYTES)} of them in reserve): free some space, or delete data sets that are not needed`,
  )
}

export function tooLarge(limit: number): ServiceError {
  return new ServiceError(
    'payload_too_large',
    `The file is larger than ${limit} bytes (${megabytes(limit)}), which is the limit for uploads: compress it with gzip, ` +
      'put it into one of the folders of MLX_TRAINING_DATASET_ROOTS and name its path, or raise MLX_TRAINING_MAX_UPLOAD_BYTES',
  )
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`
