import { mkdir, readdir, readFile, rename, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { isSegment } from './names.ts'

/**
 * The hub cache of Python's huggingface_hub, so that both sides see what the other has downloaded:
 *   models--ORG--NAME/refs/REVISION            a commit
 *   models--ORG--NAME/blobs/ETAG               a file by its sha256 (LFS) or its git hash
 *   models--ORG--NAME/snapshots/COMMIT/FILE →  ../../blobs/ETAG
 * https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */
export class HubCache {
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  blob(repo: string, etag: string): string {
    return join(this.#repo(repo), 'blobs', etag)
  }

  snapshot(repo: string, commit: string): string {
    return join(this.#repo(repo), 'snapshots', commit)
  }

  /** The folder of a revision that has been downloaded, as a whole or in part; null when there is none. */
  async find(repo: string, revision: string): Promise<string | null> {
    const commit = isCommit(revision) ? revision : await this.#commitOf(repo, revision)
    if (!commit) return null
    const folder = this.snapshot(repo, commit)
    return (await isFolder(folder)) ? folder : null
  }

  async setRef(repo: string, revision: string, commit: string): Promise<void> {
    if (isCommit(revision)) return
    const path = join(this.#repo(repo), 'refs', revision)
    await mkdir(dirname(path), { recursive: true })
    const temporary = `${path}.${process.pid}.tmp`
    await writeFile(temporary, commit)
    await rename(temporary, path)
  }

  /** Puts a blob into a snapshot under its name. */
  async link(repo: string, commit: string, name: string, etag: string): Promise<void> {
    const path = join(this.snapshot(repo, commit), name)
    await mkdir(dirname(path), { recursive: true })
    const temporary = `${path}.${process.pid}.tmp`
    await symlink(relative(dirname(path), this.blob(repo, etag)), temporary)
    await rename(temporary, path)
  }

  /** Every snapshot, complete or not, under the name that `find` would find it by. */
  async *all(): AsyncGenerator<{ id: string; path: string }> {
    for (const folder of await list(this.root)) {
      const [type, org = '', name = '', ...rest] = folder.split('--')
      if (type !== 'models' || rest.length || !isSegment(org) || !isSegment(name)) continue
      const repo = `${org}/${name}`
      const refs = new Map<string, string>()
      for (const ref of await list(join(this.#repo(repo), 'refs'))) {
        const commit = await this.#commitOf(repo, ref)
        if (commit && (ref === 'main' || !refs.has(commit))) refs.set(commit, ref)
      }
      for (const commit of (await list(join(this.#repo(repo), 'snapshots'))).filter(isCommit)) {
        const ref = refs.get(commit)
        yield {
          id: ref === 'main' ? repo : `${repo}@${ref ?? commit}`,
          path: this.snapshot(repo, commit),
        }
      }
    }
  }

  #repo(repo: string): string {
    return join(this.root, `models--${repo.replace('/', '--')}`)
  }

  async #commitOf(repo: string, revision: string): Promise<string | null> {
    const text = await readFile(join(this.#repo(repo), 'refs', revision), 'utf8').catch(() => '')
    return isCommit(text.trim()) ? text.trim() : null
  }
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision)

export const list = (folder: string): Promise<string[]> =>
  readdir(folder).then(
    (names) => names.filter((name) => !name.startsWith('.')).sort(),
    () => [],
  )

export const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (info) => info.isDirectory(),
    () => false,
  )
