/** Where the files of uploaded data sets are: one folder each, complete or not there. */
import { randomBytes, randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceError } from '@mlx-training/contract'

/** The file as it was uploaded; the rows of one that isn't JSON Lines; where each row begins. */
export const FILES = { data: 'data', rows: 'rows', index: 'index' } as const

const TEMPORARY = '.new-'
const ID_CHARACTERS = '0123456789abcdefghijklmnopqrstuvwxyz'

export class Shelf {
  readonly root: string

  /** The folder is made when something is put there. */
  constructor(root: string) {
    this.root = root
  }

  /** A new folder for what is not a data set yet. */
  async temporary(): Promise<string> {
    const folder = join(this.root, TEMPORARY + randomUUID())
    await mkdir(folder, { recursive: true, mode: 0o700 })
    return folder
  }

  /** Of a data set; ids come from the store, never from a client unchecked. */
  folder(id: string): string {
    return join(this.root, id)
  }

  async open(id: string, file: keyof typeof FILES): Promise<FileHandle> {
    try {
      return await open(join(this.folder(id), FILES[file]), 'r')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      throw new ServiceError('not_found', `The files of data set ${id} are gone`, { cause: error })
    }
  }

  /** Gives a finished folder, whose files are on the disk, its name. */
  async publish(folder: string, id: string): Promise<void> {
    await syncFolder(folder)
    await rename(folder, this.folder(id))
    await syncFolder(this.root)
  }

  async remove(folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true })
  }

  /** Removes all folders but those of `ids`. */
  async sweep(ids: ReadonlySet<string>): Promise<void> {
    const entries = await readdir(this.root).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw error
    })
    for (const name of entries) if (!ids.has(name)) await this.remove(join(this.root, name))
  }
}

/** ds_ and 20 of [0-9a-z]: 103 bits. */
export function newId(): string {
  let id = 'ds_'
  while (id.length < 23)
    for (const byte of randomBytes(32)) {
      // 252 is a multiple of 36: every character is as likely.
      if (byte < 252 && id.length < 23) id += ID_CHARACTERS[byte % 36]
    }
  return id
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  await handle.sync().finally(() => handle.close())
}
