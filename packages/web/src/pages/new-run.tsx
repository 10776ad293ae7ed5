/** Starts a run: model, data, settings, what it will take, and the same call for programs. */
import '../styles/data.css'
import './new-run/new-run.css'
import { useState } from 'preact/hooks'
import { PageHead } from '../components/page-head.tsx'
import { ErrorState, Skeleton } from '../components/states.tsx'
import { useLoad } from '../live/load.ts'
import { query } from '../router.ts'
import { useTitle } from '../title.ts'
import { valuesOf } from './new-run/form.ts'
import { Form } from './new-run/form-view.tsx'
import { PRESETS, withPreset } from './new-run/presets.ts'
import type { Values } from './new-run/values.ts'

/** `?from=` takes another run's settings, `?resume_from=` its weights too, `?dataset=`, `?validation=` and `?model=` are chosen already. */
export default function NewRun() {
  useTitle('New run')
  const asked = query.value
  const [forms, setForms] = useState(0)
  const continued = asked.get('resume_from')
  const source = asked.get('from') ?? continued?.replace(/^fine-tuned\//, '').replace(/@step-\d+$/, '') ?? null
  const { data, error, reload } = useLoad(
    async (client, signal) => (source === null ? {} : await client.train.request(source, { signal })),
    [source],
  )
  const lead = continued
    ? `Goes on learning from the weights of ${continued}`
    : source
      ? `With the settings of ${source}`
      : 'Choose a model and data, see what will be learned and what it takes, and start'
  return (
    <>
      <PageHead
        title="New run"
        lead={lead}
        back={source ? { label: source, href: `/experiments/${source}` } : { label: 'Experiments', href: '/' }}
      />
      {error ? (
        <ErrorState error={error} onRetry={reload} />
      ) : data === null ? (
        <Skeleton lines={8} />
      ) : (
        <Form
          key={`${forms} ${asked}`}
          onAnew={() => setForms(forms + 1)}
          initial={initial(data, {
            dataset: asked.get('dataset'),
            validation: asked.get('validation'),
            model: asked.get('model'),
            continued,
          })}
          preset={source === null ? (PRESETS[0]?.id ?? null) : null}
          source={source}
        />
      )}
    </>
  )
}

function initial(
  request: object,
  { dataset, validation, model, continued }: Record<'dataset' | 'validation' | 'model' | 'continued', string | null>,
): Values {
  // The name and the folder are the other run's.
  const { experiment_name: _, output_dir: __, overwrite: ___, ...values } = valuesOf(request)
  const first = PRESETS[0]
  const base = Object.keys(values).length === 0 && first ? withPreset({}, first) : values
  return {
    ...base,
    ...(dataset && { 'dataset.dataset_path': dataset }),
    ...(validation && { 'dataset.validation_path': validation }),
    ...(model && { model_name: model }),
    ...(continued && { resume_from: continued.replace(/^fine-tuned\//, '') }),
  }
}
