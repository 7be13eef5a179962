# The names that the pages use for things of their readers, as small real ones. Sourced by run.sh; `$inputs` is where they are made, once each.

make_input() { # NAME
  [ -e "$inputs/$1" ] && return
  case $1 in
    COHORT) wsi synth --out "$inputs/COHORT" ;;
    CAMELYON17) wsi synth camelyon17 --scale 0.05 --out "$inputs/CAMELYON17" ;;
    BRACS) wsi synth bracs --scale 0.01 --out "$inputs/BRACS" ;;
    LUNG) make_input COHORT && ln -s COHORT "$inputs/LUNG" ;;
    SLIDES) make_input COHORT && ln -s COHORT/slides "$inputs/SLIDES" ;;
    labels.csv) make_input COHORT && ln -s COHORT/labels.csv "$inputs/labels.csv" ;;
    MIL | cifar-100-binary | pytorch_model.bin) python3 "$here/inputs.py" "$1" "$inputs/$1" ;;
    wsi-*.tar.zst | wsi-*.tar.zst.sha256) ln -s "$root/dist/$1" "$inputs/$1" ;;
    *) return 1 ;;
  esac
}

names=(COHORT CAMELYON17 BRACS LUNG SLIDES labels.csv MIL cifar-100-binary pytorch_model.bin)
