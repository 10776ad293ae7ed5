import type { ModelInfo } from '@mlx-training/sdk'
import { useEffect, useState } from 'preact/hooks'
import { Badge } from '../../components/badge.tsx'
import { Choices } from '../../components/choices.tsx'
import { Card } from '../../components/facts.tsx'
import { Field } from '../../components/field.tsx'
import { Icon } from '../../components/icon.tsx'
import { ErrorState, Skeleton } from '../../components/states.tsx'
import { bytes } from '../../format.ts'
import { useLoad } from '../../live/load.ts'

const SOURCES: Record<ModelInfo['source'], string> = {
  bundled: 'bundled',
  local: 'local',
  hub_cache: 'hub cache',
  fine_tuned: 'fine-tuned',
}

export interface ModelCardProps {
  model: string
  error: string | undefined
  /** `typing`: more letters may follow. */
  onModel: (model: string, typing: boolean) => void
}

/** Models beyond these get a search field. */
const MANY = 6

export function ModelCard({ model, error, onModel }: ModelCardProps) {
  const { data, error: failed, reload } = useLoad((client, signal) => client.models({ signal }), [])
  const [search, setSearch] = useState('')
  const models = data?.models ?? []
  const known = models.some(({ id }) => id === model)
  const choose = (id: string) => onModel(id, false)
  // Where there is but one, a newcomer needs not choose.
  const only = models.length === 1 ? models[0]?.id : undefined
  useEffect(() => {
    if (only && model === '') choose(only)
  }, [only])
  const found = models.filter(({ id }) => id.toLowerCase().includes(search.trim().toLowerCase()))
  return (
    <Card title="1. Model">
      <div class="stack">
        {failed && !data ? (
          <ErrorState error={failed} onRetry={reload} />
        ) : !data ? (
          <Skeleton lines={3} />
        ) : models.length === 0 ? (
          <p class="muted">No model is here yet. A hub id below is downloaded when the run begins.</p>
        ) : (
          <>
            {models.length > MANY && (
              <div class="search">
                <Icon name="search" />
                <input
                  class="input"
                  type="search"
                  aria-label="Search the models"
                  placeholder="Search"
                  value={search}
                  onInput={(event) => setSearch(event.currentTarget.value)}
                />
              </div>
            )}
            <Choices label="Models that are here" choices={found.map(choiceOf)} value={model} onChange={choose} />
          </>
        )}
        <Field
          label="Or another one"
          hint="A hub id (org/name, org/name@revision), or the path of a folder or a GGUF file on the server"
          error={error}
        >
          {(props) => (
            <input
              {...props}
              name="model_name"
              autocomplete="off"
              spellcheck={false}
              placeholder="mlx-community/Qwen2.5-1.5B-4bit"
              value={known ? '' : model}
              onInput={(event) => onModel(event.currentTarget.value.trim(), true)}
              onChange={(event) => choose(event.currentTarget.value.trim())}
            />
          )}
        </Field>
      </div>
    </Card>
  )
}

function choiceOf({ id, source, architecture, base_model, quantization, size_bytes }: ModelInfo) {
  const note = [base_model ? `made of ${base_model}` : architecture, quantization, bytes(size_bytes)]
  return {
    value: id,
    title: id,
    note: note.filter(Boolean).join(' · '),
    aside: <Badge>{SOURCES[source]}</Badge>,
  }
}
