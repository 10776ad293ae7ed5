import { Button } from '../../components/button.tsx'
import { Choices } from '../../components/choices.tsx'
import { Card } from '../../components/facts.tsx'
import { Segmented } from '../../components/field.tsx'
import { Parameters } from './parameters.tsx'
import { changesFrom, PRESETS, withPreset } from './presets.ts'
import { type Method, methodOf, type Value, type Values, withMethod } from './values.ts'

export interface MethodCardProps {
  values: Values
  errors: Readonly<Record<string, string>>
  /** Of PRESETS; null: settings of another run. */
  preset: string | null
  onPreset: (id: string, values: Values) => void
  onValues: (values: Values) => void
  onChange: (path: string, value: Value) => void
}

const METHOD_NAMES: Record<Method, string> = { lora: 'LoRA', qlora: 'QLoRA', dora: 'DoRA', full: 'Full' }
const METHOD_MEANS: Record<Method, string> = {
  lora: 'Small matrices beside the weights are trained; the weights stay as they are.',
  qlora: 'LoRA over a base of 4 bits: least memory.',
  dora: 'LoRA that also trains the length of each weight column: slower, often better at low rank.',
  full: 'Every weight is trained: four times the memory of the weights, and lower learning rates.',
}

export function MethodCard({ values, errors, preset, onPreset, onValues, onChange }: MethodCardProps) {
  const chosen = PRESETS.find(({ id }) => id === preset)
  const changes = chosen ? changesFrom(values, chosen) : 0
  const method = methodOf(values)
  return (
    <Card
      title="3. Settings"
      actions={
        chosen &&
        changes > 0 && (
          <>
            <span class="muted small">
              {chosen.title} with {changes === 1 ? '1 change' : `${changes} changes`}
            </span>
            <Button size="small" onClick={() => onPreset(chosen.id, withPreset(values, chosen))}>
              Undo
            </Button>
          </>
        )
      }
    >
      <div class="stack">
        <Choices
          label="Presets"
          across
          value={preset ?? ''}
          onChange={(id) => {
            const next = PRESETS.find((one) => one.id === id)
            if (next) onPreset(id, withPreset(values, next))
          }}
          choices={PRESETS.map(({ id, title, about }) => ({ value: id, title, note: about }))}
        />
        <div class="row">
          <Segmented
            label="Method"
            value={method}
            onChange={(next) => onValues(withMethod(values, next))}
            options={Object.entries(METHOD_NAMES).map(([value, label]) => ({ value: value as Method, label }))}
          />
          <span class="muted small">{METHOD_MEANS[method]}</span>
        </div>
        <Parameters values={values} errors={errors} onChange={onChange} />
      </div>
    </Card>
  )
}
