import type { Config } from '../config.ts'
import { FAILPOINTS } from '../files/failpoints.ts'

/** What every engine process is started by. */
export type EngineConfig = Pick<Config, 'python' | 'engineSource' | 'home'> & Partial<Pick<Config, 'kernels'>>

const PASSED_ON =
  /^(PATH|HOME|LANG|LC_[A-Z]+|TMPDIR|TZ|LD_LIBRARY_PATH|MLX_(?!TRAINING_)\w+|OMP_\w+|MKL_\w+|KMP_\w+|CUDA_\w+)$/

/**
 * What an engine process gets to see of the environment: no provider keys, no hub token, no database URL, nothing of the
 * server's own settings. It never goes to the network.
 */
export function engineEnvironment(
  config: Pick<EngineConfig, 'engineSource' | 'kernels'>,
  environment: NodeJS.ProcessEnv = process.env,
): Record<string, string> {
  const passed = Object.entries(environment).filter((entry): entry is [string, string] => {
    const [name, value] = entry
    return value !== undefined && (name === FAILPOINTS || PASSED_ON.test(name))
  })
  return {
    ...Object.fromEntries(passed),
    ...(config.kernels === false && { MLX_TRAINING_KERNELS: 'false' }),
    PYTHONPATH: config.engineSource,
    PYTHONUNBUFFERED: '1',
    PYTHONUTF8: '1',
    HF_HUB_OFFLINE: '1',
    TRANSFORMERS_OFFLINE: '1',
    TOKENIZERS_PARALLELISM: 'false',
  }
}
