/** All parameters, in groups that open; one with an error opens by itself. */
import { useEffect, useState } from 'preact/hooks'
import { Icon } from '../../components/icon.tsx'
import { GROUPS, type Group } from './fields.ts'
import { isDefault } from './form.ts'
import { ParameterField } from './parameter.tsx'
import { parameterAt } from './schema.ts'
import type { Value, Values } from './values.ts'

export interface ParametersProps {
  values: Values
  errors: Readonly<Record<string, string>>
  onChange: (path: string, value: Value) => void
}

export function Parameters({ values, errors, onChange }: ParametersProps) {
  return (
    <div class="groups">
      {GROUPS.filter(({ when }) => when?.(values) ?? true).map((group) => (
        <GroupOf key={group.id} group={group} values={values} errors={errors} onChange={onChange} />
      ))}
    </div>
  )
}

function GroupOf({ group, values, errors, onChange }: ParametersProps & { group: Group }) {
  const { id, title, about, fields } = group
  const wrong = fields.filter(({ path }) => errors[path]).length
  const changed = fields.filter(({ path }) => !isDefault(parameterAt(path), values[path])).length
  const [open, setOpen] = useState(false)
  useEffect(() => {
    if (wrong > 0) setOpen(true)
  }, [wrong])
  return (
    <details class="group" id={`group-${id}`} open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <Icon name="chevron" size={16} />
        <span class="group-title">
          <strong>{title}</strong>
          <span class="muted small">{about}</span>
        </span>
        {wrong > 0 && <span class="badge bad">{wrong === 1 ? '1 error' : `${wrong} errors`}</span>}
        {wrong === 0 && changed > 0 && <span class="badge">{changed} set</span>}
      </summary>
      <div class="parameters">
        {fields.map((field) => (
          <ParameterField
            key={field.path}
            field={field}
            value={values[field.path]}
            error={errors[field.path]}
            onChange={onChange}
          />
        ))}
      </div>
    </details>
  )
}
