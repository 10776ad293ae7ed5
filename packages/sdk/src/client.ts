import type {
  CompareResponse,
  HealthResponse,
  ModelsResponse,
  ProvidersResponse,
  ReadyResponse,
} from '@mlx-training/contract'
import type { CompareInput } from './requests.ts'
import { Datasets } from './resources/datasets.ts'
import { Evaluations } from './resources/evaluations.ts'
import { createGenerate, type Generate } from './resources/generate.ts'
import { Keys } from './resources/keys.ts'
import { Train } from './resources/train.ts'
import { type ClientOptions, MINUTE, type RequestOptions, Transport } from './transport.ts'

/**
 * The service, shaped like its URLs:
 *
 *     const client = new MlxTraining({ apiKey })
 *     await client.train.start({ experiment_name: 'mine', model_name: 'SmolLM2-135M-Instruct', dataset: { dataset_path } })
 *     const { status } = await client.train.wait('mine', { onEvent: (event) => console.log(event.type) })
 *     for await (const { text } of client.generate.stream({ model: 'fine-tuned/mine', prompt })) write(text)
 */
export class MlxTraining {
  readonly train: Train
  readonly datasets: Datasets
  readonly evaluations: Evaluations
  readonly keys: Keys
  readonly generate: Generate
  readonly #transport: Transport

  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport(options)
    this.train = new Train(this.#transport)
    this.datasets = new Datasets(this.#transport)
    this.evaluations = new Evaluations(this.#transport)
    this.keys = new Keys(this.#transport)
    this.generate = createGenerate(this.#transport)
  }

  /** Models that are here: bundled, local, hub cache, fine-tuned. */
  models(options: RequestOptions = {}): Promise<ModelsResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: '/models' })
  }

  /** Answers of several models side by side. It waits for the last of them. */
  compare(request: CompareInput, options: RequestOptions = {}): Promise<CompareResponse> {
    return this.#transport.json({ timeout: 30 * MINUTE, ...options, method: 'POST', path: '/compare', json: request })
  }

  providers(options: RequestOptions = {}): Promise<ProvidersResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: '/providers' })
  }

  health(options: RequestOptions = {}): Promise<HealthResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: '/health' })
  }

  /** ServerError with status 503: it can't work, for the reason in its message. Not tried again. */
  ready(options: RequestOptions = {}): Promise<ReadyResponse> {
    return this.#transport.json({ maxRetries: 0, ...options, method: 'GET', path: '/ready' })
  }

  /** In the text format of Prometheus. */
  metrics(options: RequestOptions = {}): Promise<string> {
    return this.#transport.text({ ...options, method: 'GET', path: '/metrics' })
  }
}
