"""Readers find their corpus in any folder and format, and say why they refuse anything else."""

import math
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from data_prep import corpora
from data_prep.corpora import crema_d as crema_d_corpus
from data_prep.corpora.reading import find_audio
from ser_jax.common import tables
from ser_jax.common.errors import UserError

CREMA_D = [f"1001_DFA_{code}_XX.wav" for code in crema_d_corpus.EMOTIONS]
RAVDESS = [f"03-01-0{emotion}-01-01-01-0{actor}.wav" for actor in (1, 2) for emotion in range(1, 9)]
ACTORS = '"ActorID","Age","Sex"\n1001,51,"Male"\n1002,21,"Female"\n'
VOTES = """"","A","D","F","H","N","S","fileName"
"100001",1,2,3,4,5,6,"1001_DFA_ANG_XX"
"200001",9,9,9,9,9,9,"1001_DFA_ANG_XX"
"300001",8,8,8,8,8,8,"1001_DFA_ANG_XX"
"100002",0,0,0,0,0,7,"1040_ITH_SAD_X"
"""


def touch(root: Path, *names: str) -> Path:
    """Create empty files: readers never open the audio."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ids(corpus: corpora.Corpus) -> list[str]:
    return [u.id for u in corpus.utterances]


def refusal(name: str, root: Path, **settings) -> str:
    with pytest.raises(UserError) as error:
        corpora.read(name, root, **settings)
    return str(error.value)


def test_crema_d_is_read_by_name_at_any_depth_and_in_any_format(tmp_path):
    touch(tmp_path, "1002_IEO_ANG_HI.wav", "a/1001_IEO_NEU_XX.OGG", "a/b/c/1001_IEO_SAD_LO.flac")
    touch(tmp_path, "notes.txt", "a/laughter.wav", ".hidden.wav", ".git/1003_IEO_ANG_HI.wav")
    corpus = corpora.read("crema_d", tmp_path)
    assert ids(corpus) == ["1001_IEO_NEU_XX", "1001_IEO_SAD_LO", "1002_IEO_ANG_HI"]
    assert corpus.ignored == (tmp_path / "a/laughter.wav",)
    assert (corpus.name, corpus.title) == ("crema_d", "CREMA-D")
    assert corpus.labels == ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
    clip = corpus.utterances[2]
    assert (clip.path, clip.emotion, clip.speaker) == (
        tmp_path / "1002_IEO_ANG_HI.wav",
        "anger",
        "1002",
    )
    assert clip.attributes == {"sentence": "IEO", "level": "HI", "sex": "", "age": ""}
    assert clip.votes == ()


def test_crema_d_clip_under_its_old_name_gets_the_published_id(tmp_path):
    corpus = corpora.read("crema_d", touch(tmp_path, "1040_ITH_SAD_X.wav"))
    assert ids(corpus) == ["1040_ITH_SAD_XX"]
    assert corpus.utterances[0].path.name == "1040_ITH_SAD_X.wav"


def test_crema_d_mp3_beside_a_better_copy_is_ignored(tmp_path):
    touch(tmp_path, "AudioMP3/1001_DFA_ANG_XX.mp3", "AudioWAV/1001_DFA_ANG_XX.wav")
    touch(tmp_path, "AudioMP3/1001_DFA_SAD_XX.mp3")
    corpus = corpora.read("crema_d", tmp_path)
    assert [u.path.suffix for u in corpus.utterances] == [".wav", ".mp3"]
    assert corpus.ignored == (tmp_path / "AudioMP3/1001_DFA_ANG_XX.mp3",)


@pytest.mark.parametrize("other", ["b/1040_ITH_SAD_XX.wav", "b/1040_ITH_SAD_XX.flac"])
def test_crema_d_repeated_clip_is_refused(tmp_path, other):
    touch(tmp_path, "a/1040_ITH_SAD_X.wav", other)
    message = refusal("crema_d", tmp_path)
    assert "two files are clip 1040_ITH_SAD_XX" in message
    assert "a/1040_ITH_SAD_X.wav" in message and other in message and "remove one" in message


def test_crema_d_unknown_emotion_is_refused(tmp_path):
    message = refusal("crema_d", touch(tmp_path, *CREMA_D, "1001_DFA_JOY_XX.wav"))
    assert "1001_DFA_JOY_XX.wav has the unknown emotion code JOY; the codes are ANG, DIS" in message


@pytest.mark.parametrize("layout", ["flat", "upstream", "elsewhere"])
def test_crema_d_votes_and_actors_come_from_its_tables(tmp_path, layout):
    root = touch(tmp_path / "corpus", *CREMA_D, "1040_ITH_SAD_X.wav", "1002_IEO_ANG_HI.wav")
    tables = tmp_path / "tables" if layout == "elsewhere" else root
    votes = tables / "processedResults" if layout == "upstream" else tables
    votes.mkdir(parents=True, exist_ok=True)
    (tables / "VideoDemographics.csv").write_text(ACTORS)
    (votes / "tabulatedVotes.csv").write_text(VOTES)
    corpus = corpora.read("crema_d", root, tables_dir=tables if layout == "elsewhere" else None)
    by_id = {u.id: u for u in corpus.utterances}
    assert by_id["1001_DFA_ANG_XX"].votes == (1, 2, 3, 4, 5, 6)  # voice only
    assert by_id["1040_ITH_SAD_XX"].votes == (0, 0, 0, 0, 0, 7)
    assert by_id["1001_DFA_SAD_XX"].votes == ()
    actors = {u.speaker: (u.attributes["sex"], u.attributes["age"]) for u in corpus.utterances}
    assert actors == {"1001": ("male", "51"), "1002": ("female", "21"), "1040": ("", "")}


def test_crema_d_whole(shared_data):
    corpus = corpora.read(
        "crema_d", shared_data / "crema_d_resynth", tables_dir=shared_data / "crema_d"
    )
    assert len(corpus.utterances) == 7442 and not corpus.ignored
    counts = Counter(u.emotion for u in corpus.utterances)
    assert counts == dict.fromkeys(corpus.labels, 1271) | {"neutral": 1087}
    sex = {u.speaker: u.attributes["sex"] for u in corpus.utterances}
    assert Counter(sex.values()) == {"male": 48, "female": 43}
    clips = Counter(u.speaker for u in corpus.utterances)
    few = {"1008": 76, "1009": 76, "1019": 76, "1002": 81, "1076": 81}
    assert {speaker: n for speaker, n in clips.items() if n != 82} == few
    sentences = Counter(u.attributes["sentence"] for u in corpus.utterances)
    assert len(sentences) == 12 and sentences["IEO"] == 1456
    assert all(len(u.votes) == 6 and sum(u.votes) > 0 for u in corpus.utterances)
    assert ids(corpus) == sorted(ids(corpus))


def test_ravdess_has_eight_classes_and_sung_clips_are_ignored(tmp_path):
    touch(tmp_path, *(f"Actor_0{name[-5]}/{name}" for name in RAVDESS))
    touch(tmp_path, "Actor_01/03-02-01-01-01-01-01.wav", "Actor_02/03-01-05-02-02-02-02.wav")
    corpus = corpora.read("ravdess", tmp_path)
    assert corpus.labels == tuple(
        "anger calm disgust fear happiness neutral sadness surprise".split()
    )
    assert Counter(u.emotion for u in corpus.utterances)["anger"] == 3
    assert [path.name for path in corpus.ignored] == ["03-02-01-01-01-01-01.wav"]
    angry = next(u for u in corpus.utterances if u.id == "03-01-05-02-02-02-02")
    assert (angry.emotion, angry.speaker) == ("anger", "02")
    assert angry.attributes == {"sentence": "02", "level": "strong", "sex": "female"}
    assert {u.attributes["sex"] for u in corpus.utterances if u.speaker == "01"} == {"male"}


def test_ravdess_take_is_one_clip_whether_from_sound_or_video(tmp_path):
    touch(tmp_path, "03-01-05-01-01-01-01.wav", "video/01-01-05-01-01-01-01.wav")
    touch(tmp_path, "video/01-01-06-01-01-01-01.wav", "video/02-01-07-01-01-01-01.wav")
    corpus = corpora.read("ravdess", tmp_path)
    assert ids(corpus) == ["01-01-06-01-01-01-01", "03-01-05-01-01-01-01"]
    assert sorted(path.name[:8] for path in corpus.ignored) == ["01-01-05", "02-01-07"]


def test_ravdess_doubled_folder_is_named(tmp_path):
    names = [f"Actor_0{name[-5]}/{name}" for name in RAVDESS]
    touch(tmp_path, *names, *(f"audio_speech_actors_01-24/{name}" for name in names))
    message = refusal("ravdess", tmp_path)
    assert "16 clips are there twice, such as" in message
    assert f"{tmp_path / 'audio_speech_actors_01-24'} seems to be a copy" in message


def test_ravdess_with_the_six_classes_of_crema_d(tmp_path):
    six = tuple(crema_d_corpus.EMOTIONS.values())
    corpus = corpora.read("ravdess", touch(tmp_path, *RAVDESS), emotions=six[::-1])
    assert corpus.labels == tuple(sorted(six))  # the corpus's order, not the caller's
    assert len(corpus.utterances) == 12
    assert {u.emotion for u in corpus.utterances} == set(six)


def test_ravdess_unknown_emotion_is_refused(tmp_path):
    message = refusal("ravdess", touch(tmp_path, "03-01-09-01-01-01-01.wav"))
    assert "has the unknown emotion code 09; the codes are 01, 02" in message


def test_ravdess_whole(shared_data):
    corpus = corpora.read("ravdess", shared_data / "ravdess")
    assert len(corpus.utterances) == 1440
    counts = Counter(u.emotion for u in corpus.utterances)
    assert counts == dict.fromkeys(corpus.labels, 192) | {"neutral": 96}
    speakers = {u.speaker: u.attributes["sex"] for u in corpus.utterances}
    assert Counter(speakers.values()) == {"male": 12, "female": 12}


def table(root: Path, *rows: str, header: str = "path,emotion,speaker") -> Path:
    root.mkdir(exist_ok=True)
    (root / "corpus.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8-sig")
    return root / "corpus.csv"


def test_csv_defines_its_classes_and_keeps_further_columns(tmp_path):
    file = table(
        tmp_path,
        "jörg/b.wav,boredom,jörg,office",
        "anna/./a.flac,joy,anna,",
        header="path,emotion,speaker,room",
    )
    corpus = corpora.read("csv", file)
    assert corpus.title == "corpus"
    assert corpus.labels == ("boredom", "joy")
    assert ids(corpus) == ["anna/a", "jörg/b"]
    assert [u.path for u in corpus.utterances] == [
        tmp_path / "anna/a.flac",
        tmp_path / "jörg/b.wav",
    ]
    assert [u.speaker for u in corpus.utterances] == ["anna", "jörg"]
    assert [u.attributes for u in corpus.utterances] == [{"room": ""}, {"room": "office"}]


def test_csv_is_found_in_its_folder(tmp_path):
    file = table(tmp_path, "a.wav,joy,anna")
    assert corpora.read("csv", tmp_path) == corpora.read("csv", file)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,emotion", "a.wav,joy", "needs a header with path, emotion, speaker"),
        ("path,emotion,speaker", "", "at least one row"),
        (
            "path,emotion,speaker",
            "a.wav,,anna",
            "emotion is missing in 1 rows (corpus.csv, line 2: '')",
        ),
        ("path,emotion,speaker", ",joy,", "line 2: path is empty"),
        ("path,emotion,speaker", "a.wav,joy", "line 2 has 2 fields, and the header has 3"),
        (
            "path,emotion,speaker,room",
            "a.wav,joy,anna",
            "line 2 has 3 fields, and the header has 4",
        ),
        ("path,emotion,speaker", "a.wav,joy,anna,42", "line 2 has 4 fields, and the header has 3"),
        ("path,emotion,speaker", "a.wav,joy,nan", "speaker is missing in 1 rows"),
        ("Datei,Wert", "a.wav,joy", "its first line is 'Datei,Wert'"),
        ("path,label,class,speaker", "a.wav,x,y,z", "several columns for emotion: label, class"),
        ("path,emotion,speaker,x,x", "a.wav,joy,anna,,", "has two columns x"),
        (
            "path,emotion,speaker",
            r"..\a.wav,joy,anna",
            r"line 2: ..\a.wav leaves the table's folder",
        ),
        ("path,emotion,speaker", r"C:\a.wav,joy,anna", "leaves the table's folder"),
        (
            "path,emotion,speaker",
            'a.wav,joy,anna\n"b.wav,joy,anna',
            "starts in line 3 cannot be read",
        ),
        ("path,emotion,speaker", 'a.wav,"joy,anna\nb.wav,"joy,anna', "is a quote not closed?"),
        ("path,emotion,speaker,x", 'a,joy,b,"y\nb,joy,b,y"', "in line 2 contains other rows"),
        (
            "path,emotion,speaker",
            f"a.wav,joy,{'a' * 200_000}",
            "in line 2 cannot be read (field larger",
        ),
        ("a" * 200_000, "a.wav", "cannot be read (field larger"),
        (f"path,emotion,speaker,{'a' * 2000}", "a,b,c,d", "name of column 4 has 2,000 characters"),
        ("path,emotion,speaker", "a.wav,joy,an\0na", "is not a text file"),
        ("path,emotion,speaker", f"{'a' * 300}.wav,joy,anna", "is too long for a file name"),
        ("path,emotion,speaker", f"a.wav,{'joy' * 400},anna", "emotion has 1,200 characters"),
        ("path,emotion,speaker", 'a.wav,joy,"an\nna"', "speaker has 5 characters and 2 lines"),
        ("path,emotion,speaker", "../a.wav,joy,anna", "line 2: ../a.wav leaves the table's folder"),
        ("path,emotion,speaker", "b/../../a.wav,joy,anna", "leaves the table's folder; use a path"),
        ("path,emotion,speaker", "/etc/a.wav,joy,anna", "/etc/a.wav leaves the table's folder"),
        ("path,emotion,speaker", ".,joy,anna", "line 2: . leaves the table's folder"),
        ("path,emotion,speaker", "a.wav,joy,anna\nb/../a.flac,joy,anna", "lists a more than once"),
    ],
)
def test_faulty_csv_is_refused(tmp_path, header, row, message):
    assert message in refusal("csv", table(tmp_path, row, header=header))


def test_absolute_paths_below_the_table_are_the_relative_ones(tmp_path):
    relative = corpora.read("csv", table(tmp_path, "b/a.wav,joy,anna"))
    assert corpora.read("csv", table(tmp_path, f"{tmp_path}/b/a.wav,joy,anna")) == relative
    assert "leaves the table's" in refusal("csv", table(tmp_path, f"{tmp_path}2/a.wav,joy,anna"))


def test_many_blanks_within_a_text_take_no_time():
    text = f"a{' ' * 10**6}b"
    assert tables.clean(f"\ufeff \u2003{text}\x1f\u3000\u200b \u2060") == text


def test_csv_text_is_stripped_and_normalised_before_it_is_compared(tmp_path):
    nfd = unicodedata.normalize("NFD", "jörg")
    touch(tmp_path, f"{nfd}/b.wav")
    file = table(
        tmp_path,
        f" a.wav ,joy , {nfd}",
        "jörg\\b.wav,joy,jörg\u00a0",
        "",
        ",,",
        "c.wav,sad,anna,,",
        header="Path , Emotion,Speaker",
    )
    corpus = corpora.read("csv", file)
    assert corpus.labels == ("joy", "sad")
    assert ids(corpus) == ["a", "c", "jörg/b"]
    assert {u.speaker for u in corpus.utterances} == {"jörg", "anna"}
    assert corpus.utterances[2].path.exists()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "names", ["path emotion speaker", "FILE Label spk", "audio class Speaker-ID"]
)
def test_csv_delimiters_and_other_names_of_columns(tmp_path, delimiter, names):
    header = delimiter.join([*names.split(), "room"])
    row = delimiter.join(["a.wav", '"joy"', "anna", "b" if delimiter == "," else "b,c"])
    (clip,) = corpora.read("csv", table(tmp_path, row, header=header)).utterances
    assert (clip.id, clip.emotion, clip.speaker) == ("a", "joy", "anna")
    assert clip.attributes.keys() == {"room"}


def test_csv_column_under_its_own_name_leaves_its_synonyms_alone(tmp_path):
    file = table(tmp_path, "a.wav,joy,anna,x", header="path,emotion,speaker,label")
    assert corpora.read("csv", file).utterances[0].attributes == {"label": "x"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.wav,joy,Anna", "b.wav,joy,anna"], "speakers 'Anna' (corpus.csv, line 2) and 'anna'"),
        (
            ["a.wav,joy,1", "b.wav,joy,2", "c.wav,joy,1.0"],
            "speakers '1' (corpus.csv, line 2) and '1.0'",
        ),
        (
            ["a.wav,joy,01", "b.wav,joy,1"],
            "(corpus.csv, line 2) and '1' (corpus.csv, line 3) the same?",
        ),
        (["a.wav,joy,ﬁn", "b.wav,joy,fin"], "are the speakers 'ﬁn'"),
        (["a.wav,Joy,anna", "b.wav,joy,anna"], "alike if they are, or use corpus.label_map"),
        (["A.wav,joy,anna", "a.wav,joy,anna"], "are the files 'A' (corpus.csv, line 2) and 'a'"),
    ],
)
def test_nearly_equal_texts_are_a_question(tmp_path, rows, message):
    assert message in refusal("csv", table(tmp_path, *rows))


def test_different_speakers_and_files_are_no_question(tmp_path):
    file = table(tmp_path, "1.wav,joy,1_0", "01.wav,sad,10", "1.00.wav,joy,1e1")
    assert len(corpora.read("csv", file).utterances) == 3


def test_missing_labels_are_named_with_their_rows(tmp_path):
    rows = ["a.wav,joy,anna", *(f"b{i}.wav,{'NaN' if i else ''},anna" for i in range(7))]
    message = refusal("csv", table(tmp_path, *rows))
    assert (
        "emotion is missing in 7 rows (corpus.csv, line 3: '', corpus.csv, line 4: 'NaN'" in message
    )
    assert "and 2 more" in message and "corpus.label_map" in message


def test_csv_segments_are_clips(tmp_path):
    rows = ["a.wav,0,0.5", "a.wav,0.5,", "a.wav,1.25,NaT", "b.wav,,2", "c.wav,,", "d.wav,0.0,nan"]
    header = "path,emotion,speaker,Start,end,room"
    names = [row.replace(".wav,", ".wav,joy,anna,") + ",x" for row in rows]
    corpus = corpora.read("csv", table(tmp_path, *names, header=header))
    assert {u.id: tuple(u.segment) for u in corpus.utterances} == {
        "a@0-0.5": (0, 0.5),
        "a@0.5-end": (0.5, math.inf),
        "a@1.25-end": (1.25, math.inf),
        "b@0-2": (0, 2),
        "c": (0, math.inf),
        "d": (0, math.inf),
    }
    assert {u.path.name for u in corpus.utterances} == {"a.wav", "b.wav", "c.wav", "d.wav"}
    assert all(u.attributes == {"room": "x"} for u in corpus.utterances)
    message = refusal("csv", table(tmp_path, names[0], names[0], header=header))
    assert "lists a@0-0.5 more than once (corpus.csv, line 2, corpus.csv, line 3)" in message


@pytest.mark.parametrize("times", ["1,0.5", "1,1", "-1,2", "soon,2", "0,later", "inf,"])
def test_faulty_segments_are_refused(tmp_path, times):
    file = table(tmp_path, f"a.wav,joy,anna,{times}", header="path,emotion,speaker,start,end")
    start, end = times.split(",")
    message = refusal("csv", file)
    assert f"line 2: start and end are {start!r} and {end!r}; give seconds" in message


def test_label_map_merges_renames_and_leaves_out(tmp_path):
    file = table(tmp_path, "a.wav,Joy,x", "b.wav,joy ,x", "c.wav,sad,x", "d.wav,nan,x", "e.wav,,x")
    corpus = corpora.read("csv", file, label_map=("Joy=joy", " sad = grief ", "nan=", "="))
    assert corpus.labels == ("grief", "joy") and ids(corpus) == ["a", "b", "c"]
    assert corpora.read("csv", file, label_map=("Joy=joy", "nan=", "="), emotions=("joy ",)).labels


def test_label_map_merges_votes(tmp_path):
    touch(tmp_path, *CREMA_D)
    (tmp_path / "tabulatedVotes.csv").write_text(VOTES)
    corpus = corpora.read("crema_d", tmp_path, label_map=("fear=anger", "neutral="))
    assert corpus.labels == ("anger", "disgust", "happiness", "sadness")
    assert len(corpus.utterances) == 5
    assert corpus.utterances[0].votes == (1 + 3, 2, 4, 6) and corpus.utterances[1].votes == ()


@pytest.mark.parametrize("label_map", [("joy",), ("glee=joy",), ("joy=a", "joy=b")])
def test_faulty_label_map_is_refused(tmp_path, label_map):
    message = refusal("csv", table(tmp_path, "a.wav,joy,x", "b.wav,sad,x"), label_map=label_map)
    assert "corpus.label_map has" in message and "of 'joy', 'sad'" in message


@pytest.mark.parametrize("seed", range(20))
def test_mutated_tables_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    inserts = ['"', ",", ";", "\n", "\r", "\t", "\0", "\\", "é", "nan", "1e999", " ", "/", ".."]
    rows = [f"clips/{s}{e}.wav,{e},s{s},0,{s}.5" for s in range(4) for e in ("joy", "sad")]
    table = "\n".join(["path,emotion,speaker,start,end", *rows]).encode()
    for _ in range(20):
        content = bytearray(table)
        for _ in range(rng.randint(1, 5)):
            place = rng.randrange(len(content))
            content[place : place + rng.choice((0, 1, 20))] = rng.choice(
                (rng.choice(inserts).encode(), bytes([rng.randrange(256)]), content[place:])
            )
        (tmp_path / "corpus.csv").write_bytes(content)
        try:
            corpus = corpora.read("csv", tmp_path)
        except UserError as error:
            assert "\n" not in str(error).strip()
        else:
            assert all(u.emotion and u.speaker and not u.path.is_file() for u in corpus.utterances)


def test_the_cases_that_failed(shared_data):
    folder = shared_data.parent / "cases" / "tables"
    if not folder.is_dir():
        pytest.skip(f"the cases are not at {folder}")
    for (
        name
    ) in "plain backslash header_case header_file label_space semicolon speaker_space".split():
        corpus = corpora.read("csv", folder / f"{name}.csv")
        assert corpus.labels == ("angry", "calm", "sad") and len(corpus.utterances) == 27
        assert len({u.speaker for u in corpus.utterances}) == 9
        assert all(u.path.is_file() for u in corpus.utterances)
    for name, n_clips in (("segments_one", 27), ("segments_many", 54)):
        utterances = corpora.read("csv", folder / f"{name}.csv").utterances
        assert len(utterances) == n_clips and all("@" in u.id for u in utterances)
    assert "(label_case.csv, line 5), 'sad' (label" in refusal("csv", folder / "label_case.csv")
    assert "are the emotions 'Angry'" in refusal("csv", folder / "label_case.csv")
    assert "starts in line 7" in refusal("csv", folder / "unclosed_quote.csv")


def test_csv_that_is_missing_or_not_utf_8_is_refused(tmp_path):
    assert "corpus.csv does not exist; corpus.name=csv needs a table" in refusal("csv", tmp_path)
    (tmp_path / "corpus.csv").write_bytes("path,emotion,speaker\na.wav,Ärger,anna".encode("cp1252"))
    assert "corpus.csv is not UTF-8" in refusal("csv", tmp_path)


def test_each_record_is_entered_under_its_own_name():
    assert all(spec.name == name for name, spec in corpora.CORPORA.items())
    assert "ODbL" in corpora.CORPORA["crema_d"].licence
    assert "CC BY-NC-SA 4.0" in corpora.CORPORA["ravdess"].licence


def test_unknown_corpus_and_missing_root_are_refused(tmp_path):
    assert "corpus.name='creamad' is unknown; use one of crema_d" in refusal("creamad", tmp_path)
    assert "does not exist; set --config.corpus.root" in refusal("crema_d", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["crema_d", "ravdess"])
def test_root_that_is_a_file_or_without_audio_is_refused(tmp_path, name):
    (tmp_path / "corpus.zip").touch()
    assert "corpus.zip is a file; give the folder" in refusal(name, tmp_path / "corpus.zip")
    assert "there are no audio files below" in refusal(name, tmp_path)
    assert "--config" not in refusal(name, tmp_path)  # other programs read corpora, too


@pytest.mark.parametrize(
    ("name", "files", "title"), [("crema_d", RAVDESS, "CREMA-D"), ("ravdess", CREMA_D, "RAVDESS")]
)
def test_wrong_reader_is_refused(tmp_path, name, files, title):
    message = refusal(name, touch(tmp_path, *files))
    assert f"is named like a clip of {title} (the first is {files[0]})" in message
    assert "check --config.corpus.name" in message


def test_synthetic_corpus_and_speech_are_not_mistaken_for_each_other(made_corpus, tmp_path):
    assert "holds a synthetic corpus" in refusal("crema_d", made_corpus)
    assert "holds a synthetic corpus" in refusal("csv", made_corpus)
    assert "holds no synthetic corpus" in refusal("synthetic", touch(tmp_path, *CREMA_D))
    corpus = corpora.read("synthetic", made_corpus)
    assert (corpus.name, len(corpus.utterances)) == ("synthetic", 72)
    assert "not speech" in corpus.title


def test_chosen_emotions_keep_their_votes_and_unknown_ones_are_refused(tmp_path):
    touch(tmp_path, *CREMA_D)
    (tmp_path / "tabulatedVotes.csv").write_text(VOTES)
    corpus = corpora.read("crema_d", tmp_path, emotions=("sadness", "anger"))
    assert corpus.labels == ("anger", "sadness")
    assert [u.emotion for u in corpus.utterances] == ["anger", "sadness"]
    assert corpus.utterances[0].votes == (1, 6)
    message = refusal("crema_d", tmp_path, emotions=("anger", "joy"))
    assert "corpus.emotions has 'joy', which CREMA-D lacks; choose from anger" in message


def test_known_defects_are_dropped_from_their_own_corpus_only(tmp_path):
    pair = ["1006_TIE_HAP_XX.wav", "1006_TIE_NEU_XX.wav"]
    crema_d = touch(tmp_path / "crema_d", *CREMA_D, *pair, "1076_MTI_SAD_XX.wav")
    assert len(corpora.read("crema_d", crema_d).utterances) == 9
    assert len(corpora.read("crema_d", crema_d, drop_defects=True).utterances) == 6
    assert len(corpora.CORPORA["crema_d"].defects) == 7

    pair = ["03-01-03-01-02-01-07.wav", "03-01-03-01-02-02-07.wav"]
    ravdess = touch(tmp_path / "ravdess", *pair)
    assert ids(corpora.read("ravdess", ravdess, drop_defects=True)) == ["03-01-03-01-02-01-07"]

    own = table(tmp_path / "own", "1076_MTI_SAD_XX.wav,sadness,anna")
    assert ids(corpora.read("csv", own, drop_defects=True)) == ["1076_MTI_SAD_XX"]


def test_ravdess_defect_is_a_copy(shared_data):
    path = {u.id: u.path for u in corpora.read("ravdess", shared_data / "ravdess").utterances}
    for clip, twin in corpora.CORPORA["ravdess"].defects.items():
        assert path[clip].read_bytes() == path[twin].read_bytes()


def test_links_are_followed_and_a_file_reached_twice_is_read_once(tmp_path):
    touch(tmp_path / "disk", "1001_DFA_ANG_XX.wav", "deep/1001_DFA_SAD_XX.wav")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "disk")
    (root / "again").symlink_to(tmp_path / "disk")
    assert ids(corpora.read("crema_d", root)) == ["1001_DFA_ANG_XX", "1001_DFA_SAD_XX"]


def test_cyclic_links_end(tmp_path):
    touch(tmp_path, "deep/1001_DFA_ANG_XX.wav")
    (tmp_path / "deep" / "back").symlink_to(tmp_path)
    assert find_audio(tmp_path) == [tmp_path / "deep/1001_DFA_ANG_XX.wav"]
