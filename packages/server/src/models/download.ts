import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { constants, mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { ServiceError } from '@mlx-training/contract'
import type { HubCache } from './cache.ts'
import { isWeights, readConfig, UnusableModel } from './folder.ts'
import type { Hub, HubFile } from './hub.ts'
import type { Following } from './share.ts'

/** What mlx-lm loads, without what could be run: never *.py, *.bin, *.pt. Other safetensors (`consolidated…`) would only
 *  double the download. */
export const isWanted = (name: string): boolean =>
  isWeights(name) || /^[^.].*\.(json|jsonl|jinja|txt|tiktoken)$/.test(name) || name === 'tokenizer.model'

/**
 * Brings a commit's files into the cache, with its `weights` or without them, and returns its snapshot folder. Weights come last, so that a folder with all
 * its weights is complete, and a model that can't be used is refused before they are fetched. A file lies at
 * `blobs/ETAG.mlx-training.incomplete` until it is whole, checked against the hub's hash and fsynced; the next download
 * continues it. Two processes that write it write the same bytes at the same places.
 * Throws HubProblem, UnusableModel, ServiceError('insufficient_storage' | 'provider_error').
 */
export async function downloadSnapshot(
  hub: Hub,
  cache: HubCache,
  repo: string,
  commit: string,
  { signal, onProgress, weights: wanted }: Required<Following> & { weights: boolean },
): Promise<string> {
  const all = (await hub.files(repo, commit, signal)).filter((file) => isWanted(file.name))
  const weights = all.filter((file) => isWeights(file.name))
  if (!weights.length) throw new UnusableModel('has no weights named model*.safetensors')
  const files = wanted ? all : all.filter((file) => !isWeights(file.name))
  const total = files.reduce((sum, file) => sum + file.size, 0)
  const present = await Promise.all(files.map((file) => sizeOf(cache.blob(repo, file.etag))))
  await checkSpace(cache.root, total - present.reduce((sum, size) => sum + size, 0), repo)

  let done = 0
  let told = -1
  const progress = (bytes: number) => {
    // At most a hundred reports, however small the chunks are.
    if (bytes < total && Math.floor((100 * bytes) / total) === told) return
    told = Math.floor((100 * bytes) / total)
    onProgress('downloading', bytes, total)
  }
  const get = async (file: HubFile) => {
    const start = done
    await fetchBlob(hub, cache, repo, commit, file, signal, (position) => progress(start + position))
    await cache.link(repo, commit, file.name, file.etag)
    done = start + file.size
    progress(done)
  }

  const small = files.filter((file) => !isWeights(file.name))
  for (const file of small) await get(file)
  await readConfig(cache.snapshot(repo, commit))
  if (wanted) for (const file of weights) await get(file)
  return cache.snapshot(repo, commit)
}

async function fetchBlob(
  hub: Hub,
  cache: HubCache,
  repo: string,
  commit: string,
  file: HubFile,
  signal: AbortSignal,
  onPosition: (bytes: number) => void,
): Promise<void> {
  const blob = cache.blob(repo, file.etag)
  if ((await stat(blob).catch(() => null))?.size === file.size) return
  const partial = `${blob}.mlx-training.incomplete`
  await mkdir(dirname(blob), { recursive: true })
  for (let attempt = 1; ; attempt++) {
    await fetchPartial(hub, repo, commit, file, partial, signal, onPosition)
    if ((await hashOf(partial, file, signal)) === file.etag) break
    await rm(partial, { force: true })
    if (attempt === 2)
      throw new ServiceError(
        'provider_error',
        `${file.name} of ${repo} arrived damaged twice: its hash is not the one that ${hub.endpoint} gives`,
      )
  }
  await rename(partial, blob)
}

async function fetchPartial(
  hub: Hub,
  repo: string,
  commit: string,
  file: HubFile,
  partial: string,
  signal: AbortSignal,
  onPosition: (bytes: number) => void,
): Promise<void> {
  const handle = await open(partial, constants.O_RDWR | constants.O_CREAT, 0o644)
  try {
    if ((await handle.stat()).size > file.size) await handle.truncate(0)
    const from = (await handle.stat()).size
    onPosition(from)
    if (from === file.size) return
    await hub.read(repo, commit, file, from, signal, async (chunk, position) => {
      await handle.write(chunk, 0, chunk.byteLength, position).catch((error: NodeJS.ErrnoException) => {
        throw unwritable(error, repo)
      })
      onPosition(position + chunk.byteLength)
    })
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** sha256 of an LFS file, git's blob hash of another: whichever the etag is. */
async function hashOf(path: string, file: HubFile, signal: AbortSignal): Promise<string> {
  const lfs = file.etag.length === 64
  const hash = createHash(lfs ? 'sha256' : 'sha1')
  if (!lfs) hash.update(`blob ${file.size}\0`)
  await pipeline(createReadStream(path), hash, { signal })
  return hash.digest('hex')
}

const sizeOf = (blob: string): Promise<number> =>
  stat(blob)
    .catch(() => stat(`${blob}.mlx-training.incomplete`))
    .then(
      (info) => info.size,
      () => 0,
    )

async function checkSpace(folder: string, needed: number, repo: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const { bavail, bsize } = await statfs(folder)
  if (needed > bavail * bsize) throw full(repo, needed, bavail * bsize)
}

const unwritable = (error: NodeJS.ErrnoException, repo: string): ServiceError =>
  error.code === 'ENOSPC' || error.code === 'EDQUOT'
    ? full(repo)
    : new ServiceError('internal', `The Hugging Face cache can't be written (${error.code})`, { cause: error })

function full(repo: string, needed?: number, free?: number): ServiceError {
  const sizes = needed && free !== undefined ? `: ${gigabytes(needed)} are needed, ${gigabytes(free)} are free` : ''
  return new ServiceError(
    'insufficient_storage',
    `No room to download ${repo}${sizes}. Free space in the Hugging Face cache or set HF_HUB_CACHE to another disk`,
  )
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`
