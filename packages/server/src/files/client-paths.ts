import { constants } from 'node:fs'
import { type FileHandle, lstat, open, opendir, readlink, realpath } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, resolve, sep } from 'node:path'
import { ServiceError } from '@mlx-training/contract'
import { closest } from './closest.ts'
import type { ClientPaths } from './port.ts'
import { isUnder } from './under.ts'

/** Kernel interfaces, not files: /proc/self/environ holds keys, devices have side effects when opened. */
const NEVER = ['/proc', '/sys', '/dev']
const MAX_PATH_BYTES = 4096
const MAX_NAME_BYTES = 255
/** As Linux: more symlinks than this on one path are a loop. */
const MAX_SYMLINKS = 40

interface Place {
  /** As the client's path reads against the working folder. */
  asked: string
  /** Where it leads when every symlink is followed; parts that do not exist are kept as they are. */
  real: string
  exists: boolean
}

export function createClientPaths(cwd: string): ClientPaths {
  /** The place of `path` if it is under a root; else null, whether or not something is there. */
  async function placeUnder(path: string, roots: readonly string[]): Promise<Place | null> {
    const asked = resolve(cwd, checkedText(path))
    const place = await locate(asked)
    return (await isAllowed(place.real, roots)) ? { asked, ...place } : null
  }

  async function isAllowed(real: string, roots: readonly string[]): Promise<boolean> {
    if (NEVER.some((folder) => isUnder(folder, real))) return false
    const realRoots = await Promise.all(roots.map((root) => locate(resolve(cwd, root))))
    return realRoots.some((root) => isUnder(root.real, real))
  }

  const outside = (path: string, roots: readonly string[], setting: string) =>
    new ServiceError(
      'forbidden',
      `"${resolve(cwd, path)}" is outside the folders that this server may use: ${roots.join(', ') || 'none'}. ` +
        `Choose a path under one of them, or add a folder to ${setting}. (/proc, /sys and /dev are never used.)`,
    )

  return {
    async openFile(path, roots, setting = 'MLX_TRAINING_DATASET_ROOTS') {
      const place = await placeUnder(path, roots)
      if (!place) throw outside(path, roots, setting)
      if (!place.exists) throw await missing(place, await isAllowed(dirname(place.real), roots))
      const { handle, size } = await openChecked(place)
      // A folder on the way may have become a symlink since the check: ask where the open file really is.
      const opened = await pathOf(handle, place.real)
      if (opened !== null && (await isAllowed(opened, roots))) return { handle, realPath: place.real, size }
      await handle.close()
      throw outside(path, roots, setting)
    },

    async existingFolder(path, roots) {
      const place = await placeUnder(path, roots)
      if (!place) {
        // "org/name" is also the form of a hub id: outside the roots it is just no folder.
        if (!isAbsolute(path) && !path.startsWith('.')) return null
        throw outside(path, roots, 'MLX_TRAINING_MODEL_ROOTS')
      }
      return (await kindOf(place.real)) === 'folder' ? place.real : null
    },

    async outputFolder(path, roots) {
      const place = await placeUnder(path, roots)
      if (!place) throw outside(path, roots, 'MLX_TRAINING_OUTPUT_ROOTS')
      let nearest = place.real
      let kind = await kindOf(nearest)
      while (kind === null && dirname(nearest) !== nearest) {
        nearest = dirname(nearest)
        kind = await kindOf(nearest)
      }
      if (kind !== 'folder') throw new ServiceError('invalid_path', `"${nearest}" is a ${kind}, not a folder.`)
      return place.real
    },
  }
}

function checkedText(path: string): string {
  const invalid = (why: string) => new ServiceError('invalid_path', `The path ${why}.`)
  if (path === '') throw invalid('is empty')
  if (path.includes('\0')) throw invalid('contains a NUL byte')
  if (path === '~' || path.startsWith('~/'))
    throw invalid('starts with "~", which is not expanded here: give the whole path')
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) throw invalid(`is longer than ${MAX_PATH_BYTES} bytes`)
  if (path.split(sep).some((name) => Buffer.byteLength(name) > MAX_NAME_BYTES))
    throw invalid(`has a name longer than ${MAX_NAME_BYTES} bytes`)
  return path
}

/**
 * Like realpath, but also for what does not exist: a dangling symlink counts as where it points to, so that
 * an answer never tells whether something exists outside the roots.
 */
async function locate(path: string, symlinks = 0): Promise<{ real: string; exists: boolean }> {
  try {
    return { real: await realpath(path), exists: true }
  } catch {
    const parent = dirname(path)
    if (parent === path) return { real: path, exists: false }
    const folder = (await locate(parent, symlinks)).real
    const real = join(folder, basename(path))
    const target = symlinks < MAX_SYMLINKS ? await readlink(real).catch(() => null) : null
    return target === null ? { real, exists: false } : locate(resolve(folder, target), symlinks + 1)
  }
}

/** Opens without following a last symlink and without waiting on a FIFO; regular files only. */
async function openChecked({ asked, real }: Place): Promise<{ handle: FileHandle; size: number }> {
  const swapped = () => new ServiceError('conflict', `"${asked}" was replaced while it was being opened: try again.`)
  const kind = await kindOf(real)
  if (kind === null) throw swapped()
  if (kind !== 'file') throw new ServiceError('invalid_path', `"${asked}" is a ${kind}, not a regular file.`)
  const before = await lstat(real, { bigint: true }).catch(() => {
    throw swapped()
  })
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY
  const handle = await open(real, flags).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EACCES' || error.code === 'EPERM')
      throw new ServiceError('forbidden', `"${asked}" can't be read by the user that the server runs as.`)
    if (error.code === 'ENOENT' || error.code === 'ELOOP' || error.code === 'ENOTDIR') throw swapped()
    throw error
  })
  const now = await handle.stat({ bigint: true })
  if (now.isFile() && now.dev === before.dev && now.ino === before.ino) return { handle, size: Number(now.size) }
  await handle.close()
  throw swapped()
}

/** The kernel's own name for an open file (Linux); elsewhere the path is resolved again and must give the same inode. */
async function pathOf(handle: FileHandle, path: string): Promise<string | null> {
  try {
    return await readlink(`/proc/self/fd/${handle.fd}`)
  } catch {
    const [real, open] = [await realpath(path).catch(() => null), await handle.stat({ bigint: true })]
    const there = real === null ? null : await lstat(real, { bigint: true }).catch(() => null)
    return there?.dev === open.dev && there.ino === open.ino ? real : null
  }
}

async function kindOf(path: string): Promise<string | null> {
  const stats = await lstat(path).catch(() => null)
  if (!stats) return null
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'folder'
  if (stats.isFIFO()) return 'FIFO'
  if (stats.isSocket()) return 'socket'
  if (stats.isSymbolicLink()) return 'symlink loop'
  return 'device'
}

/** `mayList`: the folder is itself under a root, so its names may be told. */
async function missing({ asked, real }: Place, mayList: boolean): Promise<ServiceError> {
  const folder = dirname(real)
  const kind = await kindOf(folder)
  if (mayList && kind !== 'folder')
    return new ServiceError(
      'not_found',
      `No file at "${asked}": "${folder}" ${kind === null ? 'does not exist' : `is a ${kind}, not a folder`}.`,
    )
  const near = mayList ? closest(basename(real), await namesIn(folder)) : null
  return new ServiceError('not_found', `No file at "${asked}".${near ? ` Did you mean "${join(folder, near)}"?` : ''}`)
}

async function namesIn(folder: string, limit = 2000): Promise<string[]> {
  const names: string[] = []
  try {
    for await (const entry of await opendir(folder)) if (names.push(entry.name) >= limit) break
  } catch {
    // A folder that can't be listed offers no suggestion.
  }
  return names
}
