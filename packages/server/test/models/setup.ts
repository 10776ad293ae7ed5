import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type Config, loadConfig } from '../../src/config.ts'
import type { Engine } from '../../src/engine/port.ts'
import { createClientPaths } from '../../src/files/client-paths.ts'
import { createModels } from '../../src/models/index.ts'
import type { Models } from '../../src/models/port.ts'
import { modelFiles } from './hub-server.ts'

export interface World {
  root: string
  config: Config
  models: Models
  /** As after a restart of the server. */
  reopen(): Models
  /** Puts files under the root and returns their folder. */
  put(folder: string, files: Record<string, Buffer | string>): Promise<string>
}

const worlds: string[] = []

export async function removeWorlds(): Promise<void> {
  for (const root of worlds.splice(0)) await rm(root, { recursive: true, force: true })
}

/** A temporary home, cache, bundled folder and model root. The engine here imports by writing a model folder. */
export async function createWorld(
  options: { hub?: string; token?: string; offline?: boolean; importGguf?: Engine['importGguf'] } = {},
): Promise<World> {
  const root = await mkdtemp(join(tmpdir(), 'models-'))
  worlds.push(root)
  const config = loadConfig(
    {
      MLX_TRAINING_HOME: 'home',
      MLX_TRAINING_BUNDLED_MODELS: 'bundled',
      MLX_TRAINING_MODEL_ROOTS: join(root, 'shelf'),
      HF_HUB_CACHE: 'hub',
      HF_ENDPOINT: options.hub ?? (await closedUrl()),
      // Not the machine's own, where one may run.
      OLLAMA_BASE_URL: await closedUrl(),
      HF_TOKEN: options.token,
      HF_HUB_OFFLINE: options.offline ? '1' : undefined,
    },
    root,
  )
  const put: World['put'] = async (folder, files) => {
    const path = join(root, folder)
    await mkdir(path, { recursive: true })
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(path, name)), { recursive: true })
      await writeFile(join(path, name), content)
    }
    return path
  }
  const importGguf: Engine['importGguf'] = async (_, output) => put(output.slice(root.length), modelFiles(10))
  const reopen = () =>
    createModels({
      config,
      paths: createClientPaths(root),
      engine: { importGguf: options.importGguf ?? importGguf },
      hubRetryMs: 1,
    })
  return { root, config, models: reopen(), reopen, put }
}

/** Where nothing listens any more. */
async function closedUrl(): Promise<string> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return `http://127.0.0.1:${port}`
}
