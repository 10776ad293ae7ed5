import { type Static, Type } from 'typebox'
import { enumOf, Nullable } from './common.ts'

export const ModelInfo = Type.Object({
  id: Type.String({ description: 'Name to use as model_name or model' }),
  source: enumOf(['bundled', 'local', 'hub_cache', 'fine_tuned'] as const),
  architecture: Nullable(Type.String({ description: "model_type of the model's config.json" })),
  quantization: Nullable(Type.String({ description: 'e.g. "4-bit"' })),
  size_bytes: Type.Integer(),
  base_model: Nullable(Type.String({ description: 'Of a fine-tuned model' })),
  serving_verified: Nullable(
    Type.Boolean({
      description: 'Of a fine-tuned model: as in its status. null of others, and before it is known',
    }),
  ),
  checkpoints: Type.Array(Type.String(), {
    description: 'Of a fine-tuned model: NAME@step-N',
  }),
})
export type ModelInfo = Static<typeof ModelInfo>

export const ModelsResponse = Type.Object({ models: Type.Array(ModelInfo) }, { $id: 'ModelsResponse' })
export type ModelsResponse = Static<typeof ModelsResponse>
