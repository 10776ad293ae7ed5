import { createHash } from 'node:crypto'
import { mkdir, stat } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { type ModelInfo, ServiceError } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { Engine } from '../engine/port.ts'
import type { ClientPaths } from '../files/port.ts'
import { HubCache, isCommit, isFolder, list } from './cache.ts'
import { downloadSnapshot } from './download.ts'
import { show, toServiceError } from './errors.ts'
import { checkTokenizer, readConfig, readModelFolder } from './folder.ts'
import { Hub } from './hub.ts'
import { isSegment, parseHubName } from './names.ts'
import type { ModelRef, Models } from './port.ts'
import { Resolver } from './resolve.ts'
import { type Following, Shared } from './share.ts'

export { listFineTuned } from './fine-tuned.ts'

export interface ModelsDeps {
  config: Config
  paths: ClientPaths
  engine: Pick<Engine, 'importGguf'>
  /** First pause before a failed request to the hub is made again; it doubles. Default 500. */
  hubRetryMs?: number
}

export const createModels = (deps: ModelsDeps): Models => new LocalModels(deps)

class LocalModels implements Models {
  readonly #config: Config
  readonly #engine: Pick<Engine, 'importGguf'>
  readonly #hub: Hub
  readonly #cache: HubCache
  readonly #resolver: Resolver
  readonly #shared = new Shared<string>()

  constructor({ config, paths, engine, hubRetryMs }: ModelsDeps) {
    this.#config = config
    this.#engine = engine
    this.#hub = new Hub(config.hub, hubRetryMs)
    this.#cache = new HubCache(config.hub.cache)
    this.#resolver = new Resolver(config, paths, this.#hub, this.#cache)
  }

  get bundled(): string | null {
    return this.#resolver.bundled
  }

  resolve(name: string): Promise<ModelRef> {
    return this.#resolver.resolve(name)
  }

  async ensure(ref: ModelRef, following: Following): Promise<string> {
    following.signal?.throwIfAborted()
    try {
      if (ref.kind === 'folder') return await complete(ref.path)
      if (ref.kind === 'gguf') return await this.#import(ref, following)
      return await this.#download(ref, following)
    } catch (error) {
      throw toServiceError(error, ref.name)
    }
  }

  async ensureText(ref: ModelRef, following: Following): Promise<string> {
    following.signal?.throwIfAborted()
    try {
      if (ref.kind !== 'hub') return await this.ensure(ref, following)
      return await this.#download(ref, following, false)
    } catch (error) {
      throw toServiceError(error, ref.name)
    }
  }

  async list(): Promise<ModelInfo[]> {
    const { home, bundledModels } = this.#config
    const found: { id: string; source: ModelInfo['source']; path: string }[] = this.#resolver
      .bundledNames()
      .map((id) => ({
        id,
        source: 'bundled',
        path: join(bundledModels, id),
      }))
    for (const org of await list(join(home, 'models')))
      for (const name of await list(join(home, 'models', org)))
        if (isSegment(org) && isSegment(name))
          found.push({ id: `${org}/${name}`, source: 'local', path: join(home, 'models', org, name) })
    for await (const snapshot of this.#cache.all()) found.push({ ...snapshot, source: 'hub_cache' })

    const models: ModelInfo[] = []
    for (const { id, source, path } of found) {
      const folder = await readModelFolder(path).catch(() => null)
      if (folder)
        models.push({
          id,
          source,
          architecture: folder.architecture,
          quantization: folder.quantization,
          size_bytes: folder.sizeBytes,
          base_model: null,
          serving_verified: null,
          checkpoints: [],
        })
    }
    return models
  }

  /** Once a file: the folder is named by path, size and time of change, so that a new file is imported anew. */
  async #import(ref: ModelRef & { kind: 'gguf' }, following: Following): Promise<string> {
    const info = await stat(ref.path).catch(() => {
      throw new ServiceError('not_found', `${show(ref.name)} is no longer there`)
    })
    const key = createHash('sha256')
      .update(JSON.stringify([ref.path, info.size, info.mtimeMs]))
      .digest('hex')
      .slice(0, 16)
    const stem = basename(ref.path, extname(ref.path)).replace(/\W+/g, '-').replace(/^-/, '').slice(0, 60)
    const folder = join(this.#config.home, 'models', 'gguf')
    const output = join(folder, `${stem}-${key}`)
    return await this.#shared.run(output, following, async ({ onProgress }) => {
      if (await isFolder(output)) return await complete(output)
      await mkdir(folder, { recursive: true })
      return await this.#engine.importGguf(ref.path, output, ({ stage, done, total }) => onProgress(stage, done, total))
    })
  }

  /** Without `weights`, what is there of them is left as it is. */
  async #download(ref: ModelRef & { kind: 'hub' }, following: Following, weights = true): Promise<string> {
    const here = this.#cache.snapshot(ref.repo, ref.revision)
    const check = weights ? complete : withText
    if (await check(here).catch(() => null)) return here
    if (this.#config.hub.offline)
      throw new ServiceError(
        'unavailable',
        `${ref.name} is not complete in the Hugging Face cache, and HF_HUB_OFFLINE is set`,
      )
    return await this.#shared.run(`${ref.repo}@${ref.revision}${weights ? '' : ' text'}`, following, async (work) => {
      const commit = isCommit(ref.revision)
        ? ref.revision
        : (await this.#hub.describe(ref.repo, ref.revision, work.signal)).commit
      const folder = await check(await downloadSnapshot(this.#hub, this.#cache, ref.repo, commit, { ...work, weights }))
      await this.#cache.setRef(ref.repo, parseHubName(ref.name)?.revision ?? 'main', commit)
      return folder
    })
  }
}

/** The folder, once its configuration and its tokenizer have been checked. */
async function withText(path: string): Promise<string> {
  await readConfig(path)
  await checkTokenizer(path)
  return path
}

/** The folder, once it has been checked. */
async function complete(path: string): Promise<string> {
  await readModelFolder(path)
  return path
}
