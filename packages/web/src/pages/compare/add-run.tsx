import { Field, Select } from '../../components/field.tsx'
import { jobs, useJobs } from '../../live/jobs.ts'
import { setNames } from './names.ts'

export function AddRun({ names }: { names: readonly string[] }) {
  useJobs()
  const others = (jobs.value ?? []).map((job) => job.experiment_name).filter((name) => !names.includes(name))
  if (others.length === 0) return null
  return (
    <Field label="Add an experiment" quiet>
      {(props) => (
        <Select
          {...props}
          value=""
          options={[
            { value: '', label: 'Add an experiment …' },
            ...others.map((name) => ({ value: name, label: name })),
          ]}
          onChange={(name) => name && setNames([...names, name])}
        />
      )}
    </Field>
  )
}
