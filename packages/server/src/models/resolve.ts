import { readdirSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { ServiceError } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { ClientPaths } from '../files/port.ts'
import { type HubCache, isFolder } from './cache.ts'
import { show, toServiceError } from './errors.ts'
import { checkConfig, isWeights, readModelFolder, UnusableModel, withoutConfig, withoutWeights } from './folder.ts'
import { type Hub, HubProblem } from './hub.ts'
import { isGguf, isPath, isSegment, parseFineTuned, parseHubName } from './names.ts'
import type { ModelRef } from './port.ts'

const DEFAULT_BUNDLED = 'SmolLM2-135M-Instruct'

/** Finds where a name leads, in the order of the port. Nothing is downloaded or written. */
export class Resolver {
  readonly #config: Config
  readonly #paths: ClientPaths
  readonly #hub: Hub
  readonly #cache: HubCache

  constructor(config: Config, paths: ClientPaths, hub: Hub, cache: HubCache) {
    this.#config = config
    this.#paths = paths
    this.#hub = hub
    this.#cache = cache
  }

  /** Throws ServiceError: not_found, unavailable (hub unreachable), forbidden (gated, outside the roots),
   *  invalid_parameters (there, but not usable). */
  async resolve(name: string): Promise<ModelRef> {
    if (parseFineTuned(name))
      throw new ServiceError(
        'invalid_parameters',
        `${show(name)} is a fine-tuned model: training starts from a base model, and with resume_from from this one's weights`,
      )
    if (isGguf(name)) return await this.#gguf(name)
    if (isPath(name)) return await this.#folder(name)

    const tried: string[] = []
    return (
      (await this.#bundledRef(name, tried)) ??
      (await this.#homeRef(name, tried)) ??
      (await this.#relativeRef(name, tried)) ??
      (await this.#hubRef(name, tried))
    )
  }

  get bundled(): string | null {
    const names = this.bundledNames()
    return names.find((name) => name === DEFAULT_BUNDLED) ?? names[0] ?? null
  }

  bundledNames(): string[] {
    try {
      return readdirSync(this.#config.bundledModels, { withFileTypes: true })
        .filter((entry) => !entry.isFile() && isSegment(entry.name))
        .map((entry) => entry.name)
        .sort()
    } catch {
      return []
    }
  }

  async #bundledRef(name: string, tried: string[]): Promise<ModelRef | null> {
    const names = this.bundledNames()
    const found = names.find((bundled) => bundled.toLowerCase() === name.toLowerCase())
    if (found) return await folderRef(found, join(this.#config.bundledModels, found))
    tried.push(`the bundled models (${names.join(', ') || 'none is set up'})`)
    return null
  }

  async #homeRef(name: string, tried: string[]): Promise<ModelRef | null> {
    const parsed = parseHubName(name)
    if (!parsed || parsed.revision) return null
    const path = join(this.#config.home, 'models', parsed.repo)
    if (await isFolder(path)) return await folderRef(name, path)
    tried.push(`models/${name} in MLX_TRAINING_HOME`)
    return null
  }

  async #relativeRef(name: string, tried: string[]): Promise<ModelRef | null> {
    const path = await this.#paths.existingFolder(name, this.#config.roots.models)
    // A folder of that name that holds something else doesn't hide the hub's repository.
    if (path && (await isFile(join(path, 'config.json')))) return await folderRef(name, path)
    if (path) await refuseAdapter(name, path)
    else await this.#refuseFile(name)
    tried.push(`a model folder ${show(name)} under MLX_TRAINING_MODEL_ROOTS`)
    return null
  }

  async #hubRef(name: string, tried: string[]): Promise<ModelRef> {
    const parsed = parseHubName(name)
    if (!parsed) throw notFound(name, tried, 'it is not of the form org/name[@revision], so no hub was asked')
    const { repo, revision } = { ...parsed, revision: parsed.revision ?? 'main' }
    const snapshot = await this.#cache.find(repo, revision)
    if (snapshot) {
      const complete = await readModelFolder(snapshot).catch((error: UnusableModel) => error)
      if (!(complete instanceof Error)) return await folderRef(name, snapshot)
      tried.push(`the Hugging Face cache (its ${name} ${complete.message})`)
    } else tried.push('the Hugging Face cache')
    if (this.#config.hub.offline) throw notFound(name, tried, 'the hub was not asked: HF_HUB_OFFLINE is set')
    try {
      return { kind: 'hub', name, repo, revision: await this.#ask({ repo, revision }) }
    } catch (error) {
      if (error instanceof HubProblem && error.kind === 'missing') throw notFound(name, tried, error.message)
      if (error instanceof HubProblem && error.kind === 'unreachable')
        throw new ServiceError(
          'unavailable',
          `${sentence(name, tried)}; ${error.message}. Try again later, or give the path of a folder`,
          {
            retryAfter: 30,
            cause: error,
          },
        )
      throw toServiceError(error, name)
    }
  }

  /** The commit of a hub repository that can be used, as far as its file names and its config.json tell. */
  async #ask({ repo, revision }: { repo: string; revision: string }): Promise<string> {
    const { commit, names } = await this.#hub.describe(repo, revision)
    if (!names.includes('config.json')) throw new UnusableModel(withoutConfig(names))
    if (!names.some(isWeights)) throw new UnusableModel(withoutWeights(names))
    checkConfig(await this.#hub.json(repo, commit, 'config.json'))
    return commit
  }

  async #folder(name: string): Promise<ModelRef> {
    const path = await this.#paths.existingFolder(name, this.#config.roots.models)
    if (!path) {
      await this.#refuseFile(name)
      throw new ServiceError('not_found', `There is no folder at ${show(name)}`)
    }
    await refuseAdapter(name, path)
    return await folderRef(name, path)
  }

  /** What is outside the roots is not looked at, and so is as if it were not there. */
  async #refuseFile(name: string): Promise<void> {
    const file = await this.#paths.openFile(name, this.#config.roots.models).catch(() => null)
    if (!file) return
    await file.handle.close()
    throw new ServiceError(
      'invalid_parameters',
      `${show(name)} is a file, not a model: name a folder with config.json and *.safetensors, or a .gguf file`,
    )
  }

  async #gguf(name: string): Promise<ModelRef> {
    const { handle, realPath } = await this.#paths.openFile(name, this.#config.roots.models, 'MLX_TRAINING_MODEL_ROOTS')
    try {
      const magic = Buffer.alloc(4)
      await handle.read(magic, 0, 4, 0)
      if (magic.toString('latin1') !== 'GGUF')
        throw new ServiceError('invalid_parameters', `${show(name)} is not a GGUF file`)
    } finally {
      await handle.close()
    }
    return { kind: 'gguf', name, path: realPath }
  }
}

async function refuseAdapter(name: string, path: string): Promise<void> {
  if (!(await isFile(join(path, 'adapter_config.json'))) || (await isFile(join(path, 'config.json')))) return
  throw new ServiceError(
    'invalid_parameters',
    `${show(name)} is the folder of an adapter, not of a model: generation takes it as fine-tuned/EXPERIMENT, a training ` +
      'as resume_from, beside the model_name of its base',
  )
}

async function folderRef(name: string, path: string): Promise<ModelRef> {
  try {
    await readModelFolder(path)
  } catch (error) {
    throw toServiceError(error, name)
  }
  return { kind: 'folder', name, path }
}

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (info) => info.isFile(),
    () => false,
  )

const sentence = (name: string, tried: string[]): string =>
  `The model ${show(name)} was not found. Looked, in this order, at ${tried.join(', ')}`

const notFound = (name: string, tried: string[], last: string): ServiceError =>
  new ServiceError(
    'not_found',
    `${sentence(name, tried)}; ${last}. GET /models lists what is here; a model can also be the path of a folder or of a GGUF file`,
  )
