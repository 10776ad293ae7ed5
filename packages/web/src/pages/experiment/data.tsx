import type { AcceptedRequest, StatusResponse } from '@mlx-training/sdk'
import { Card, Facts } from '../../components/facts.tsx'
import { ShareBar } from '../../components/share-bar.tsx'
import { ErrorState, Skeleton } from '../../components/states.tsx'
import { count, megabytes, NONE, percent } from '../../format.ts'
import type { Loaded } from '../../live/load.ts'
import { DataReport, UPLOADED } from './data-report.tsx'

export function Data({ status, request }: { status: StatusResponse; request: Loaded<AcceptedRequest> }) {
  const { dataset_details: data, lora_details: lora, metrics } = status
  if (request.error) return <ErrorState error={request.error} onRetry={request.reload} />
  if (!request.data)
    return (
      <Card>
        <Skeleton />
      </Card>
    )
  const { dataset_path: path, validation_path: validation } = request.data.dataset
  return (
    <div class="stack">
      <div class="columns">
        <Card title="Data">
          <Facts
            facts={[
              ['Rows from', <Source key="path" path={path} />],
              [
                'Validation',
                validation ? <Source key="validation" path={validation} /> : validationOf(request.data.dataset),
              ],
              ['Format', data.format],
              ['Rows', count(data.total_samples)],
              ['Trained on', count(data.trained_samples)],
              ['Held out', count(data.validation_samples)],
              ['Left out', count(data.dropped_samples)],
              ['Cut', count(data.truncated_samples)],
              ['Tokens an epoch', count(data.tokens)],
              ['Of these learned', learned(data.trained_tokens, data.tokens)],
              ['Padding', metrics.padding_share === null ? NONE : percent(100 * metrics.padding_share, 1)],
              ['Rows seen so far', count(data.processed_samples)],
            ]}
          />
          {data.trained_tokens !== null && data.tokens !== null && (
            <ShareBar
              label="Tokens of an epoch"
              shares={[
                { label: 'Trained', value: data.trained_tokens, tone: 'trained' },
                { label: 'Masked', value: data.tokens - data.trained_tokens, tone: 'masked' },
              ]}
            />
          )}
        </Card>
        <Card title={lora.enabled ? 'LoRA' : 'Full fine-tuning'}>
          <Facts
            facts={[
              ...(lora.enabled
                ? ([
                    ['Rank', count(lora.rank)],
                    ['Alpha', count(lora.alpha)],
                    ['Modules', lora.target_modules.join(', ') || NONE],
                  ] as const)
                : []),
              ['Parameters trained', lora.trainable_params > 0 ? count(lora.trainable_params) : NONE],
              ['Of the model', lora.total_params > 0 ? count(lora.total_params) : NONE],
              ['Share', lora.total_params > 0 ? `${lora.trainable_percentage}%` : NONE],
              ['Memory', metrics.gpu_memory_used_mb > 0 ? megabytes(metrics.gpu_memory_used_mb) : NONE],
              [
                'Works when served',
                { true: 'Yes, as in training', false: 'No', null: NONE }[String(status.serving_verified)],
              ],
            ]}
          />
        </Card>
      </div>
      <DataReport of={request.data.dataset} />
    </div>
  )
}

function Source({ path }: { path: string }) {
  return UPLOADED.test(path) ? <a href={`/data/${encodeURIComponent(path)}`}>{path}</a> : <code>{path}</code>
}

const validationOf = ({ validation_split: share }: { validation_split?: number }) =>
  share === undefined ? 'none' : `${percent(100 * share)} of these rows`

const learned = (trained: number | null, all: number | null) =>
  trained === null || !all ? count(trained) : `${count(trained)} (${percent((100 * trained) / all)})`
