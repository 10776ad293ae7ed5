/** The models that are here as OpenAI lists models; a fine-tuned one's checkpoints are models of their own. */
import { type ModelInfo, type OpenAIModel, ServiceError } from '@mlx-training/contract'

/** `created`: when its training was asked for, Unix seconds. */
export const openAIModels = (
  models: readonly ModelInfo[],
  created: (id: string) => number | undefined,
): OpenAIModel[] =>
  models.flatMap(({ id, source, checkpoints }) =>
    [id, ...checkpoints].map((name) => ({
      id: name,
      object: 'model' as const,
      created: created(id) ?? 0,
      owned_by: source,
    })),
  )

/** ServiceError('not_found'). */
export function openAIModel(models: readonly OpenAIModel[], id: string): OpenAIModel {
  const found = models.find((model) => model.id === id)
  if (found) return found
  throw new ServiceError(
    'not_found',
    `There is no model ${JSON.stringify(id.slice(0, 200))}. GET /v1/models lists those that are here`,
  )
}
